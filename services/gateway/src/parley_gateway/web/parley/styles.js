/** How <parley-widget> looks. Adopted as a sheet, not as a style element: strict content policies allow that. */

export const sheet = new CSSStyleSheet();
sheet.replaceSync(`
:host { color-scheme: light dark; display: block; font: 1rem/1.5 var(--parley-font, system-ui, sans-serif);
  --accent: var(--parley-accent, light-dark(#1f5fbf, #8bb8ff)); --on-accent: var(--parley-on-accent, light-dark(#fff, #0b1524));
  --surface: var(--parley-surface, light-dark(#fff, #171b21)); --ink: var(--parley-ink, light-dark(#1a2029, #e9edf2));
  --dim: light-dark(#57606d, #a5afbd); --edge: light-dark(#8a94a3, #6b7686); --line: light-dark(#d9dee5, #333b47); --soft: light-dark(#f1f4f8, #222933);
  --bad: light-dark(#a3171f, #ff9a94); }
:host([theme=light]) { color-scheme: light; } :host([theme=dark]) { color-scheme: dark; } :host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; margin: 0; font: inherit; color: inherit; }
.panel { display: flex; flex-direction: column; height: var(--parley-height, 34rem); max-height: 92dvh; overflow: hidden; color: var(--ink);
  background: var(--surface); border: 1px solid var(--line); border-radius: var(--parley-radius, 18px); box-shadow: 0 12px 36px rgb(15 30 60 / .12); }
header, .foot { flex: none; }
header { display: flex; align-items: center; gap: .8rem; padding: .9rem 1rem; border-block-end: 1px solid var(--line); }
header div { flex: 1; min-width: 0; } h2 { font-size: 1.02rem; font-weight: 650; line-height: 1.3; overflow-wrap: anywhere; }
.status { font-size: .875rem; color: var(--dim); min-height: 1.35em; }
.orb { flex: none; width: 2.6rem; height: 2.6rem; border-radius: 50%; background: var(--soft); display: grid; place-items: center; }
.orb i { width: 1.1rem; height: 1.1rem; border-radius: 50%; background: var(--dim); transform: scale(calc(1 + var(--level, 0) * 1.1)); }
:host(:is([state=listening], [state=thinking], [state=speaking], [state=using_tool])) .orb i { background: var(--accent); }
:host(:is([state=thinking], [state=using_tool], [state=connecting], [state=reconnecting])) .orb i { animation: breathe 1.1s ease-in-out infinite alternate; }
@keyframes breathe { to { opacity: .35; transform: scale(.7); } }
button { display: inline-flex; align-items: center; justify-content: center; gap: .5rem; min-height: 2.75rem; min-width: 2.75rem; padding: .4rem 1rem; cursor: pointer;
  border: 1px solid var(--line); border-radius: 999px; background: var(--surface); font-weight: 550; touch-action: manipulation; }
button:hover { background: var(--soft); } button:disabled { opacity: .55; cursor: default; }
button.main, :checked + span { background: var(--accent); border-color: var(--accent); color: var(--on-accent); }
button.end { color: var(--bad); } button.icon { padding: 0; flex: none; } .icon:dir(rtl) { transform: scaleX(-1); } button[aria-pressed=true] { background: var(--ink); border-color: var(--ink); color: var(--surface); }
:focus-visible, :focus-visible + span { outline: 3px solid var(--accent); outline-offset: 2px; } .log:focus-visible { outline-offset: -3px; }
svg { width: 1.25rem; height: 1.25rem; fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linecap: round; stroke-linejoin: round; flex: none; }
.settings { display: grid; gap: .7rem; overflow-y: auto; min-height: 6rem; padding: .9rem 1rem; background: var(--soft); border-block-end: 1px solid var(--line); font-size: .9rem; }
.settings label { display: grid; gap: .2rem; } .settings label.row { display: flex; gap: .6rem; align-items: center; min-height: 2rem; }
select, input[type=text], textarea { width: 100%; min-width: 0; min-height: 2.75rem; padding: .5rem .9rem; border: 1px solid var(--edge); border-radius: 12px; background: var(--surface); }
input[type=checkbox] { width: 1.2rem; height: 1.2rem; accent-color: var(--accent); }
.log { flex: 1; min-height: 5rem; overflow-y: auto; overscroll-behavior: contain; padding: 1rem; list-style: none; display: flex; flex-direction: column; gap: .55rem; }
.log li { max-width: 88%; padding: .5rem .85rem; border-radius: 16px; overflow-wrap: anywhere; white-space: pre-wrap; }
.agent { align-self: flex-start; background: var(--soft); border-end-start-radius: 5px; }
.user { align-self: flex-end; background: var(--accent); color: var(--on-accent); border-end-end-radius: 5px; }
.log li.note { align-self: center; max-width: 100%; padding: 0 .5rem; font-size: .85rem; color: var(--dim); text-align: center; }
.unheard { color: var(--dim); text-decoration: line-through; }
.log li.hint { margin: auto; max-width: 22rem; font-size: 1rem; padding: 1rem; }
.alert { margin: 0 1rem .8rem; padding: .7rem .9rem; border: 1px solid var(--bad); border-radius: 12px; background: light-dark(#fdeeee, #3a2123); font-size: .92rem; flex: none; display: grid; gap: .4rem; } .alert b { color: var(--bad); font-weight: 650; }
.foot, .stack { display: grid; gap: .6rem; grid-template-columns: minmax(0, 1fr); }
.foot { padding: .8rem 1rem calc(.9rem + env(safe-area-inset-bottom)); border-block-start: 1px solid var(--line); }
.row { display: flex; gap: .6rem; align-items: center; } .row > .grow { flex: 1; min-width: 0; }
.wrap { flex-wrap: wrap; } .row.wrap > * { flex: 1 0 auto; } .hold { user-select: none; -webkit-user-select: none; touch-action: none; }
.meter { width: 2.6rem; height: 6px; border-radius: 3px; background: linear-gradient(to right, var(--accent) calc(var(--level, 0) * 100%), var(--line) 0); }
fieldset { border: 0; padding: 0; min-width: 0; } legend { font-weight: 600; padding: 0; margin-block-end: .4rem; }
.stars { display: flex; gap: .4rem; } .stars label { flex: 1; max-width: 3.4rem; position: relative; } .stars input { position: absolute; inset: 0; opacity: 0; cursor: pointer; width: 100%; height: 100%; }
.stars span { display: grid; place-items: center; min-height: 2.75rem; border: 1px solid var(--edge); border-radius: 12px; font-weight: 600; }

.sr { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@media (prefers-reduced-motion: reduce) { * { animation: none !important; } }
`);
