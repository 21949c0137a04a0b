/**
 * The page at /: which business is talked to, and, in development, the facts of this session as they happen.
 *
 * The conversation itself is <parley-widget>'s. Law: facts are shown as text, never as markup.
 */

const $ = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
const widget = $('widget');
const READER = {
  connecting: 'Connecting to Kafka…',
  reading: 'Following Kafka.',
  unavailable: 'Kafka does not answer. The conversation goes on; facts appear when it is back.',
  off: 'This gateway shows no facts: it runs in production.',
  refused: 'The facts of this session may not be watched.',
  broken: 'The stream of facts broke. Opening it again…',
};
const AGAIN_MS = 1_500;
const TOOLS = {
  search_knowledge_base: 'Looking that up', analyze_deal: 'Working out the numbers', save_lead: 'Saving your details',
  score_lead: 'Checking what fits', schedule_call: 'Finding a time', research_market: 'Looking at the market',
};

async function listBusinesses() {
  const answer = await fetch('/v1/businesses');
  const businesses = await answer.json();
  const pick = $('business');
  pick.replaceChildren(...businesses.map((/** @type {any} */ b) => new Option(b.title, b.name)));
  const wanted = new URLSearchParams(location.search).get('business');
  if (businesses.some((/** @type {any} */ b) => b.name === wanted)) pick.value = wanted;
  else if (businesses.some((/** @type {any} */ b) => b.name === 'cap')) pick.value = 'cap';
  $('pick').hidden = businesses.length === 0;
  choose();
}

function choose() {
  const pick = $('business');
  if (!pick.value) return;
  widget.setAttribute('business', pick.value);
  widget.setAttribute('heading', pick.selectedOptions[0].text);
}

/** @param {string} session @param {string | null} token */
async function follow(session, token) {
  following?.abort();
  $('facts').replaceChildren();
  if (!token) return void ($('reader').textContent = READER.off);
  const mine = (following = new AbortController());
  while (!mine.signal.aborted) {
    try {
      const answer = await fetch(`/v1/sessions/${encodeURIComponent(session)}/facts`, {
        headers: { authorization: `Bearer ${token}` }, signal: mine.signal,
      });
      if (answer.status === 401 || answer.status === 403) return void ($('reader').textContent = READER.refused);
      if (answer.ok && answer.body) await read(answer.body);
    } catch {
      if (mine.signal.aborted) return undefined;
    }
    $('reader').textContent = READER.broken;
    await new Promise((done) => setTimeout(done, AGAIN_MS));
  }
  return undefined;
}

/** @type {AbortController | undefined} */
let following;
/** @type {Set<string>} */
const seen = new Set();

/** @param {ReadableStream<Uint8Array>} body */
async function read(body) {
  let text = '';
  const reader = body.pipeThrough(/** @type {any} */ (new TextDecoderStream())).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split('\n\n');
    text = events.pop() ?? '';
    for (const event of events) take(event);
  }
}

/** @param {string} event */
function take(event) {
  const [kind] = /(?<=^event: ).*/m.exec(event) ?? [];
  const [data] = /(?<=^data: ).*/m.exec(event) ?? [];
  if (!data) return;
  const told = JSON.parse(data);
  if (kind === 'reader') $('reader').textContent = READER[/** @type {keyof typeof READER} */ (told.state)];
  else if (!seen.has(told.id)) show(told);
}

/** @param {any} fact */
function show(fact) {
  seen.add(fact.id);
  const name = fact.type.replace(/^parley\./, '').replace(/\.v\d+$/, '');
  const list = $('facts');
  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  const item = make('li', '', make('details', '',
    make('summary', '', make('time', new Date(fact.time).toLocaleTimeString()), make('b', name), make('span', gist(name, fact.value))),
    make('pre', JSON.stringify(fact, null, 2))));
  item.className = `${name.split('.')[0]}-fact`;
  list.append(item);
  if (isAtEnd) list.scrollTop = list.scrollHeight;
}

/** @param {string} tag @param {string} text @param {...Node} children */
function make(tag, text, ...children) {
  const node = document.createElement(tag);
  node.append(text, ...children);
  if (tag === 'pre') node.tabIndex = 0;
  return node;
}

/** @param {string} name @param {any} v @returns {string} the one or two things that matter */
function gist(name, v) {
  const parts = {
    'session.started': () => [v.business, v.mode, v.model],
    'turn.completed': () => [`turn ${v.turn}`, v.voice_to_voice_ms != null && `voice to voice ${v.voice_to_voice_ms} ms`,
      v.barged_in && `barged in after ${v.heard_ms} of ${v.spoken_ms} ms`],
    'tool.used': () => [v.tool, v.status, `${v.round_trip_ms} ms`],
    'session.feedback': () => [`rating ${v.rating}`],
    'session.ended': () => [v.reason, `${Math.round(v.duration_ms / 1000)} s`, v.cost_usd != null && `$${v.cost_usd.toFixed(4)}`],
    'lead.qualified': () => [`score ${v.score}`, v.disposition],
    'lead.disqualified': () => [`score ${v.score}`, v.disposition],
    'lead.call_scheduled': () => [v.status, v.starts_at],
    'case.opened': () => [v.kind, v.summary],
  }[name]?.() ?? [v.channel, v.route, v.fact_type_told && `of ${v.fact_type_told}`];
  return parts.filter(Boolean).join(' · ');
}

widget.words = { ...widget.words, tools: TOOLS };
$('business').addEventListener('change', choose);
widget.addEventListener('parley-session', (/** @type {CustomEvent} */ { detail }) => follow(detail.session, detail.factsToken));
$('embed').textContent = $('embed').textContent.replace('src="', `src="${location.origin}`);
listBusinesses().catch(() => {});
