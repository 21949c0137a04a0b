/**
 * <parley-widget business="cap">: a conversation on any page, by one script tag.
 *
 *     <script type="module" src="https://voice.example.com/parley/widget.js"></script>
 *     <parley-widget business="cap"></parley-widget>
 *
 * Attributes: business, gateway, heading, mode (voice or text), push-to-talk, theme (light or dark). Properties: client,
 * words, getTicket. Every event of client.js is fired on the element as `parley-<type>`, levels apart. It shows and asks;
 * what happens is the client's business.
 */

import { ParleyClient } from './client.js';
import { sheet } from './styles.js';
import { words } from './words.js';

const ICONS = {
  gear: 'M4 7h9m5 0h2M4 17h2m5 0h9M13 7a2.5 2.5 0 1 0 5 0 2.5 2.5 0 1 0-5 0M6 17a2.5 2.5 0 1 0 5 0 2.5 2.5 0 1 0-5 0',
  mic: 'M12 3a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3zM5.5 11a6.5 6.5 0 0 0 13 0M12 17.5V21',
  end: 'M3 14.5c5-5 13-5 18 0l-2.2 2.7-4-1.6v-2.5a11 11 0 0 0-5.6 0v2.5l-4 1.6z',
  send: 'M4 12l16-8-6 16-3-6.5z',
};
const RATE_WITHIN_MS = 60_000;
const MICROPHONE = /^(microphone_|insecure_page|audio_)/;

/** @param {string} what a tag and its classes @param {Record<string, any>} [props] properties or attributes @param {...(Node | string)} children */
function el(what, props = {}, ...children) {
  const [tag, ...classes] = what.split('.');
  const node = document.createElement(tag);
  node.classList.add(...classes);
  for (const [name, value] of Object.entries(props)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const button = (classes, onclick, ...children) => el(`button${classes}`, { type: 'button', onclick }, ...children);

function icon(name) {
  const [svg, path] = ['svg', 'path'].map((tag) => document.createElementNS('http://www.w3.org/2000/svg', tag));
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

export class ParleyWidget extends HTMLElement {
  static observedAttributes = ['heading', 'business'];

  constructor() {
    super();
    /** What it says, by key; what is left out is said in English. */
    this.words = words;
    this.say = (key) => ({ ...words, ...this.words })[key];
    /** @type {((mode: string) => Promise<any>) | undefined} */
    this.getTicket = undefined;
    /** @type {ParleyClient | null} */
    this.client = null;
    this.attachShadow({ mode: 'open' }).adoptedStyleSheets = [sheet];
  }

  connectedCallback() {
    if (!this.panel) this.build();
    this.show();
  }

  disconnectedCallback() {
    this.client?.disconnect();
  }

  attributeChangedCallback(name, before, value) {
    if (!this.panel || before === value) return;
    if (name === 'business' && this.client) this.leave();
    this.title2.textContent = this.getAttribute('heading') ?? this.say('title');
  }

  // -- what is there ----------------------------------------------------------------------------------

  build() {
    const { say } = this;
    this.title2 = el('h2', { textContent: this.getAttribute('heading') ?? say('title') });
    this.status = el('p.status', {});
    this.live = el('p.sr', { role: 'status' });
    this.orb = el('span.orb', { 'aria-hidden': 'true' }, el('i'));
    this.gear = el('button.icon', { type: 'button', 'aria-label': say('settings'), 'aria-expanded': false, onclick: () => this.toggleSettings() }, icon('gear'));
    this.log = el('ol.log', { tabIndex: 0, 'aria-label': say('transcript') });
    this.alert = el('div.alert', { role: 'alert', hidden: true });
    this.chosen = {};
    this.panel = el('section.panel', { 'aria-label': say('title'), onclick: () => { if (this.isHeldBack) this.client?.resumeAudio(); } },
      el('header', {}, this.orb, el('div', {}, this.title2, this.status), this.gear),
      this.buildSettings(), this.log, this.alert, el('div.foot', {}, this.buildStart(), this.buildTalk(), this.buildRating()), this.live);
    this.shadowRoot.append(this.panel);
    this.log.append(el('li.note.hint', {}, say('hint')));
  }

  buildStart() {
    this.talkButton = button('.main.grow', () => this.start('voice'), icon('mic'), el('span'));
    this.typeButton = button('', () => (this.client?.state === 'connecting' ? this.leave() : this.start('text')));
    return this.startRow = el('div.row.wrap', {}, this.talkButton, this.typeButton);
  }

  buildTalk() {
    const { say } = this;
    this.input = el('input', { type: 'text', className: 'grow', placeholder: say('message'), 'aria-label': say('message'), maxLength: 4000, autocomplete: 'off', dir: 'auto', enterKeyHint: 'send' });
    const form = el('form.row', { onsubmit: (event) => this.sendTyped(event) }, this.input,
      el('button.icon', { 'aria-label': say('send') }, icon('send')));
    this.meter = el('span.meter', { 'aria-hidden': 'true' });
    this.muteButton = button('.grow', () => this.client?.mute(!this.client.muted), icon('mic'), el('span'), this.meter);
    this.holdButton = button('.main.grow.hold', null, icon('mic'), el('span'));
    this.listenToHold(this.holdButton);
    this.voiceButton = button('.grow', () => this.speakUp(), icon('mic'), say('talk'));
    this.endButton = button('.end', () => this.askRating(), icon('end'), say('end'));
    return this.talkRow = el('div.stack', {}, form, el('div.row', {}, this.muteButton, this.holdButton, this.voiceButton, this.endButton));
  }

  buildRating() {
    const { say } = this;
    const star = (n) => el('label', {}, el('input', { type: 'radio', name: 'rating', value: `${n}`, required: true, 'aria-label': { 1: `1, ${say('bad')}`, 5: `5, ${say('good')}` }[n] ?? `${n}` }), el('span', { 'aria-hidden': 'true' }, `${n}`));
    return this.rating = el('form.stack', { hidden: true, onsubmit: (event) => this.sendRating(event) },
      el('fieldset', {}, el('legend', {}, say('rate')), el('div.stars', {}, ...[1, 2, 3, 4, 5].map(star))),
      el('textarea', { name: 'comment', rows: 2, maxLength: 1000, placeholder: say('comment'), 'aria-label': say('comment'), dir: 'auto' }),
      el('div.row.wrap', {}, el('button.main.grow', {}, say('finish')), button('', () => this.leave(), say('skip'))));
  }

  buildSettings() {
    const { say } = this;
    this.inputs = el('select', { onchange: () => this.choose('microphone', this.inputs.value) });
    this.outputs = el('select', { onchange: () => this.choose('speaker', this.outputs.value) });
    this.byKey = el('input', { type: 'checkbox', checked: this.hasAttribute('push-to-talk'), onchange: () => { this.client?.setPushToTalk(this.byKey.checked); this.show(); } });
    this.outputsRow = el('label', { hidden: true }, say('speaker'), this.outputs);
    return this.settings = el('div.settings', { hidden: true }, el('label', {}, say('microphone'), this.inputs), this.outputsRow,
      el('label.row', {}, this.byKey, say('byKey')), button('', () => this.copy(), say('copy')));
  }

  /** Pointer, space and enter hold; what only clicks (a screen reader) switches. @param {HTMLElement} button */
  listenToHold(button) {
    const talk = (isHeld) => this.client?.[isHeld ? 'talkStart' : 'talkStop']();
    let held = false;
    button.onpointerdown = (event) => {
      event.preventDefault();
      held = true;
      button.focus();
      button.setPointerCapture(event.pointerId);
      talk(true);
    };
    button.onpointerup = button.onpointercancel = button.onblur = () => talk(false);
    button.onkeydown = button.onkeyup = (event) => {
      if (event.key !== ' ' && event.key !== 'Enter') return;
      event.preventDefault();
      talk(event.type === 'keydown');
    };
    button.oncontextmenu = (event) => event.preventDefault();
    button.onclick = () => { if (!held) talk(!this.client?.talking); held = false; };
  }

  // -- what the caller does -----------------------------------------------------------------------------

  /** @param {'voice' | 'text'} [mode] */
  async start(mode = this.getAttribute('mode') === 'text' ? 'text' : 'voice') {
    this.client?.disconnect();
    this.alert.hidden = true;
    this.spoken = []; // what was said before stays above
    const [business, gateway] = ['business', 'gateway'].map((name) => this.getAttribute(name) ?? undefined);
    const client = this.client = new ParleyClient({ business, gateway, pushToTalk: this.byKey.checked, getTicket: this.getTicket, ...this.chosen });
    this.listen(client);
    const hadFocus = this.shadowRoot.activeElement;
    await client.connect({ mode }).catch(() => {}); // it came as an event, too
    if (this.client === client && client.isConnected && hadFocus) (mode === 'text' ? this.input : this.byKey.checked ? this.holdButton : this.muteButton).focus();
  }

  speakUp() {
    this.client?.setMode('voice').then(() => this.show(), () => {});
  }

  sendTyped(event) {
    event.preventDefault();
    try {
      this.client?.sendText(this.input.value);
      this.input.value = '';
      if (this.client?.state === 'reconnecting') this.note(this.say('later'));
    } catch (wrong) {
      this.complain(wrong);
    }
  }

  askRating() {
    const { client } = this;
    if (!client?.isConnected || !client.lines.some((line) => line.role === 'user')) return this.leave();
    client.mute(true);
    client.closeAudio();
    this.isRating = true;
    this.rating.reset();
    this.rateTimer = setTimeout(() => this.leave(), RATE_WITHIN_MS);
    this.show();
    return this.rating.querySelector('input').focus();
  }

  sendRating(event) {
    event.preventDefault();
    const { rating, comment } = Object.fromEntries(new FormData(this.rating));
    try {
      this.client?.rate(Number(rating), String(comment));
      this.note(this.say('thanks'));
    } catch (wrong) {
      this.complain(wrong);
    }
    this.leave();
  }

  leave() {
    clearTimeout(this.rateTimer);
    this.isRating = false;
    this.client?.disconnect();
    this.show();
  }

  /** Once the devices are known: nothing moves under the pointer. */
  async toggleSettings() {
    this.showDevices(await (this.client ?? new ParleyClient({})).devices());
    this.settings.hidden = !this.settings.hidden;
    this.gear.setAttribute('aria-expanded', !this.settings.hidden);
  }

  choose(kind, deviceId) {
    this.chosen[kind] = deviceId;
    this.client?.[kind === 'microphone' ? 'setMicrophone' : 'setSpeaker'](deviceId);
  }

  async copy() {
    const text = this.client?.lines.map((line) => `${this.say(line.role === 'user' ? 'user' : 'agent')}: ${line.heard ?? line.text}`).join('\n') ?? '';
    await navigator.clipboard?.writeText(text).then(() => this.announce(this.say('copied')), () => {});
  }

  // -- what happens -------------------------------------------------------------------------------------

  /** @param {ParleyClient} client */
  listen(client) {
    const handlers = {
      state: ({ state, before }) => {
        if (before === 'connecting') this.held(client.audioState);
        if (state === 'listening') this.tool = null;
        if (/connect|ended/.test(state)) this.announce(this.say(state));
      },
      session() {}, playout() {}, talk() {},
      transcript: (line) => this.line(line),
      tool: (tool) => this.useTool(tool),
      notice: ({ code, message }) => { if (!/^(move|replaced)$/.test(code)) this.note(this.say(code) ?? message); },
      error: (error) => this.complain(error),
      level: ({ input, output }) => this.level(input, output),
      audio: ({ state }) => this.held(state),
      devices: (found) => this.showDevices(found),
      mute: ({ muted }) => this.announce(this.say(muted ? 'muted' : 'listening')),
      ended: () => { this.isRating = false; clearTimeout(this.rateTimer); this.level(0, 0); this.note(this.say('ended')); },
    };
    for (const [type, handle] of Object.entries(handlers)) {
      client.on(type, (detail) => {
        if (this.client !== client) return;
        handle(detail);
        if (type === 'level') return;
        this.show();
        if (type === 'ended') this.talkButton.focus();
        this.dispatchEvent(new CustomEvent(`parley-${type}`, { detail, bubbles: true, composed: true }));
      });
    }
  }

  show() {
    const { client } = this;
    const state = client?.state ?? 'idle';
    const isOn = Boolean(client?.isConnected);
    const isVoice = isOn && client.mode === 'voice';
    const isByKey = this.byKey.checked;
    this.setAttribute('state', state);
    this.startRow.hidden = isOn;
    this.talkRow.hidden = !isOn || Boolean(this.isRating);
    this.rating.hidden = !this.isRating;
    this.talkButton.disabled = state === 'connecting';
    this.talkButton.lastChild.textContent = this.say(state === 'ended' ? 'again' : 'talk');
    this.typeButton.textContent = this.say(state === 'connecting' ? 'cancel' : 'type');
    this.voiceButton.hidden = isVoice;
    this.muteButton.hidden = !isVoice || isByKey;
    this.holdButton.hidden = !isVoice || !isByKey;
    this.muteButton.setAttribute('aria-pressed', Boolean(client?.muted));
    this.muteButton.children[1].textContent = this.say(client?.muted ? 'unmute' : 'mute');
    this.holdButton.lastChild.textContent = this.say(client?.talking ? 'release' : 'hold');
    this.status.textContent = this.doing(state, client, isVoice && isByKey);
  }

  doing(state, client, isByKey) {
    if (this.isRating) return this.say('rate');
    if (state === 'using_tool' && this.tool) return `${this.tool}…`;
    if (state === 'listening' && client.muted) return this.say('muted');
    if (state === 'listening' && isByKey && !client.talking) return this.say('byHold');
    return this.say(state);
  }

  /** @param {import('./client.js').Line} line */
  line({ item, role, text, heard, final }) {
    let li = this.spoken.find((other) => other.item === item);
    if (!li) {
      li = Object.assign(el('li', { dir: 'auto' }), { item });
      this.append(li, this.spoken.find((other) => other.item > item));
      this.spoken = [...this.spoken, li].sort((one, other) => one.item - other.item);
    }
    const isCut = heard !== null && heard !== text;
    const rest = isCut && text.startsWith(heard) ? text.slice(heard.length) : text;
    const gap = /^\s*/.exec(rest)[0];
    const who = role === 'user' ? 'user' : 'agent';
    li.className = who;
    li.hidden = !text;
    li.replaceChildren(el('span.sr', {}, `${this.say(who)}: `), isCut ? heard + gap : text,
      ...(isCut ? [el('s.unheard', {}, rest.slice(gap.length)), el('span.sr', {}, this.say('unheard'))] : []));
    this.scroll();
    if (final && role === 'assistant' && this.client.mode === 'text') this.announce(text);
  }

  useTool({ name, call, phase, outcome }) {
    const said = this.say('tools')[name] ?? name.replaceAll('_', ' ');
    if (phase === 'begins') {
      this.tool = said;
      this.note(`${said}…`).call = call;
    } else {
      const note = [...this.log.children].findLast((li) => li.call === call);
      if (note) note.textContent = outcome && outcome !== 'ok' ? `${said}: ${this.say('failed')}` : `${said} ✓`;
    }
    this.show();
  }

  /** @param {string} text @returns {any} */
  note(text) {
    const li = el('li.note', { dir: 'auto' }, text);
    this.append(li);
    return li;
  }

  /** @param {string} why @param {...Node} what */
  warn(why, ...what) {
    this.alert.dataset.why = why;
    this.alert.replaceChildren(...what);
    this.alert.hidden = false;
  }

  complain({ code, message, remedy }) {
    const isOver = !this.client?.isConnected;
    const act = (label, mode) => button('', () => this.start(mode), this.say(label));
    const ways = el('div.row.wrap', {}, act('retry', this.client?.mode), MICROPHONE.test(code) ? act('type', 'text') : '');
    this.warn(code, el('b', {}, message), el('p', {}, remedy), isOver ? ways : '');
    if (!isOver) setTimeout(() => { this.alert.hidden = true; }, 12_000);
    this.show();
  }

  /** The browser holds sound back until a gesture. */
  held(state) {
    this.isHeldBack = Boolean(this.client?.isConnected) && /suspended|interrupted/.test(state);
    if (this.isHeldBack) this.warn('sound', el('b', {}, this.say('soundOff')), el('div', {}, button('', null, this.say('sound'))));
    else if (this.alert.dataset.why === 'sound') this.alert.hidden = true;
  }

  level(input, output) {
    this.meter.style.setProperty('--level', Math.min(1, input * 6));
    this.orb.style.setProperty('--level', Math.min(1, Math.max(input, output) * 4));
  }

  showDevices({ inputs, outputs }) {
    const fill = (select, found, chosen) => {
      select.replaceChildren(...(found.length ? found : [{ deviceId: '', label: '' }]).map((d) => el('option', { value: d.deviceId }, d.label || this.say('device'))));
      if (found.some((d) => d.deviceId === chosen)) select.value = chosen;
    };
    fill(this.inputs, inputs, this.client?.microphone?.deviceId ?? this.chosen.microphone);
    fill(this.outputs, outputs, this.chosen.speaker);
    this.outputsRow.hidden = outputs.length < 2;
  }

  // -- small things -------------------------------------------------------------------------------------

  append(li, next = null) {
    this.log.querySelector('.hint')?.remove();
    this.isAtEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 60;
    this.log.insertBefore(li, next);
    this.scroll();
  }

  scroll() {
    if (this.isAtEnd !== false) this.log.scrollTop = this.log.scrollHeight;
  }

  announce(text) {
    this.live.textContent = text;
  }
}

if (!customElements.get('parley-widget')) customElements.define('parley-widget', ParleyWidget);
