/** What <parley-widget> says; set `widget.words = { talk: 'Sprechen', ... }` to say it otherwise. */

export const words = {
  title: 'Talk to us', talk: 'Start talking', type: 'Type instead', retry: 'Try again', again: 'Talk again', end: 'End',
  mute: 'Mute', unmute: 'Unmute', hold: 'Hold to talk', release: 'Release to send', send: 'Send', message: 'Type a message',
  hint: 'Talk as you would on the phone: you can interrupt at any time.\nOr type.', settings: 'Settings', microphone: 'Microphone',
  speaker: 'Loudspeaker', byKey: 'Hold a button to talk', copy: 'Copy transcript', copied: 'The transcript was copied.',
  transcript: 'Transcript', unheard: ' (not heard)', user: 'You', agent: 'Agent', device: 'Default', cancel: 'Cancel',
  sound: 'Turn the sound on', soundOff: 'Your browser holds the sound back.', rate: 'How was it?', bad: 'poor', good: 'excellent',
  comment: 'Anything to add?', finish: 'Send and end', skip: 'End without rating', thanks: 'Thank you for your rating.', muted: 'You are muted', byHold: 'Hold the button to talk',
  idle: 'Ready when you are', connecting: 'Connecting…', listening: 'Listening', thinking: 'Thinking…', speaking: 'Speaking',
  using_tool: 'Looking something up…', reconnecting: 'The line broke. Reconnecting…', ended: 'The conversation is over.',
  reconnected: 'We are back.', wrap_up: 'The conversation will end soon.',
  rate_limited: 'The agent needs a moment.', failed: 'did not work', later: 'It is sent once we are back.',
  /** @type {Record<string, string>} by tool, such as { check_stock: 'Looking at the shelves' }; others are called by their name */
  tools: {},
};
