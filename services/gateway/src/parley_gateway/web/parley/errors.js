/**
 * What went wrong, in words for the caller, and what to do about it: one table.
 *
 * Codes of the service are its own (docs of parley.v1); the others are this client's. Law: every error has a remedy.
 */

/** @type {Record<string, [message: string, remedy?: string]>} without a remedy, what helps is to wait */
const WORDS = {
  microphone_denied: ['The microphone is blocked for this page.', 'Allow it by the lock in the address bar, then try again. Or type.'],
  microphone_missing: ['No microphone was found.', 'Plug one in and try again. Or type.'],
  microphone_busy: ['The microphone cannot be opened.', 'Close what else may use it, then try again. Or type.'],
  microphone_unplugged: ['The microphone went away.', 'Plug it in, choose another, or go on by typing.'],
  insecure_page: ['This page may not use a microphone.', 'Open it over https, or on localhost. Or type.'],
  audio_unsupported: ['This browser cannot play the agent’s voice.', 'Use a current browser. Or type.'],
  full: ['All lines are busy.'],
  too_many_opens: ['Too many conversations began here.'],
  service_unavailable: ['The service is starting or away.'],
  token_expired: ['The permission to start ran out.', 'Start again: a new one is fetched.'],
  token_invalid: ['The permission was not accepted.', 'Reload the page and start again.'],
  origin_not_allowed: ['This website may not start conversations.', 'The service allows sites by GATEWAY_ALLOWED_ORIGINS.'],
  unknown_business: ['There is nobody by that name here.', 'Check the business attribute of the widget.'],
  gateway_unreachable: ['The service cannot be reached.', 'Check your network, then try again.'],
  not_ready: ['The agent did not answer in time.'],
  connection_lost: ['The line was lost.', 'Start again to go on.'],
  conversation_lost: ['The line was lost, and the conversation with it.', 'Start again: what was said stays above.'],
  draining: ['The service is restarting.'],
  slow_client: ['Your network is too slow for speech.', 'Try again, or type.'],
  replaced: ['This conversation went on in another tab.', 'Go on there, or start a new one here.'],
  session_failed: ['Something broke at our end.'],
  text_too_long: ['That text is too long.', 'Send it in shorter pieces.'],
};
const SAME = {
  overloaded: 'full', business_full: 'full', too_many_sockets: 'too_many_opens', too_many_business_opens: 'too_many_opens',
  token_used: 'token_expired', resume_unknown: 'conversation_lost', session_lost: 'conversation_lost',
};

export class ParleyError extends Error {
  /**
   * @param {string} code stable; for programs
   * @param {{message?: string, remedy?: string, retryAfterS?: number | null, fatal?: boolean}} [more]
   */
  constructor(code, { message, remedy, retryAfterS, fatal = true } = {}) {
    const [known, cure] = WORDS[code] ?? [];
    super(known ?? message ?? 'Something went wrong.');
    this.name = 'ParleyError';
    this.code = code;
    this.remedy = cure ?? remedy ?? `Try again in ${retryAfterS ? `${Math.ceil(retryAfterS)} s` : 'a moment'}.`;
    /** When trying again may help; null when only something else does. */
    this.retryAfterS = retryAfterS ?? null;
    this.fatal = fatal;
    /** What the service itself said; for developers. */
    this.said = message ?? null;
  }
}

/** @param {{code: string, message?: string, remedy?: string, retry_after_s?: number | null, fatal?: boolean}} wire @returns {ParleyError} */
export function errorOf({ code, message, remedy, retry_after_s: wait, fatal }) {
  return new ParleyError(SAME[code] ?? code, { message, remedy, retryAfterS: wait, fatal });
}

/** @param {any} wrong what getUserMedia rejected with @returns {ParleyError} */
export function microphoneError(wrong) {
  const code = {
    NotAllowedError: 'microphone_denied', SecurityError: 'insecure_page', NotFoundError: 'microphone_missing',
    OverconstrainedError: 'microphone_missing',
  }[wrong.name] ?? 'microphone_busy';
  return new ParleyError(code, { message: String(wrong) });
}
