(() => {
'use strict';
// What strangers wrote reaches the page as text nodes only, and made visible like everywhere else in the reports.
const BLANK = /[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufe00-\ufe0f]|(?! )[\p{C}\p{Z}]/gu;
const visible = text => String(text).replace(BLANK, c => {
  const code = c.codePointAt(0);
  if (code <= 0xff) return '\\x' + code.toString(16).padStart(2, '0');
  return code <= 0xffff ? '\\u' + code.toString(16).padStart(4, '0') : '\\U' + code.toString(16).padStart(8, '0');
});
const el = (tag, given, ...inside) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given || {})) {
    if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  for (const each of inside.flat()) {
    if (each === null || each === undefined) continue;
    made.append(each instanceof Node ? each : document.createTextNode(visible(each)));
  }
  return made;
};
const $ = id => document.getElementById(id);

// Paper shows everything, so what is folded opens for it and folds again.
let folded = [];
addEventListener('beforeprint', () => {
  folded = [...document.querySelectorAll('details:not([open]):not(.more, .astable)')];
  folded.forEach(each => { each.open = true; });
});
addEventListener('afterprint', () => folded.forEach(each => { each.open = false; }));

// A finding that is gone to opens.
const plainHash = () => {
  try { return decodeURIComponent(location.hash.slice(1)); } catch { return location.hash.slice(1); }
};
const reveal = () => {
  const hash = plainHash();
  const target = hash && !hash.includes('?') && !hash.includes('=') ? $(hash) : null;
  if (!target) return;
  if (target.closest('#findings')) for (let each = target; each; each = each.parentElement) each.hidden = false;  // a span of time may hide it
  if (target.tagName !== 'DETAILS') return;
  for (let each = target; each; each = each.parentElement.closest('details')) each.open = true;
  target.scrollIntoView();
};
addEventListener('hashchange', reveal);
reveal();

// Certificates are searched by all that is known of them; a word that is an address is that address.
const finder = $('find-certificate');
if (finder) {
  const ADDRESS = /^(\d+\.\d+\.\d+\.\d+|[0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*)$/;
  const rows = [...document.querySelectorAll('.certificates tbody tr')].map(row => {
    const text = row.dataset.text.toLowerCase();
    return { row, text, words: new Set(text.split(/\s+/)) };
  });
  const find = () => {
    const wanted = $('c-q').value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const { row, text, words } of rows) {
      row.hidden = !wanted.every(word => ADDRESS.test(word) ? words.has(word) : text.includes(word));
      if (!row.hidden) found++;
    }
    $('c-count').textContent = wanted.length ? `${found.toLocaleString('en')} of ${rows.length.toLocaleString('en')} certificates` : '';
  };
  finder.hidden = false;
  finder.addEventListener('submit', event => event.preventDefault());
  finder.addEventListener('input', find);
  find();
}

const source = $('data');
if (!source) return;
if (typeof DecompressionStream === 'undefined') { $('old').hidden = false; return; }
const bytesOf = text => {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text), made = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) made[i] = raw.charCodeAt(i);
  return made;
};
const inflate = text => new Response(new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer();
const parsed = buffer => JSON.parse(new TextDecoder().decode(buffer));
const unpack = async text => parsed(await inflate(text));
const head = parsed(bytesOf(source.textContent));
const TYPES = { int8: Int8Array, int16: Int16Array, int32: Int32Array, float64: Float64Array };

const WORST = ['critical', 'high', 'medium', 'low', 'info'];
const VERDICTS = ['violated', 'rejected', 'unverifiable', 'inherited', 'inferred', 'verified', 'not_applicable'];
const NOBODY = '(in no inventory)';
const ROW = 28, AROUND = 12, PRINTED = 300;
const words = text => visible(text).replaceAll('_', ' ');

const start = async () => {
  const { rules, captures, rows: count } = head;
  // -- columns: those of the first rows stand in the head; all rows are read after these are on the screen, or when something asks for them.
  let have = 0;  // rows that are read
  let ends, transport, application, disposition, verdict, state, name, paths, findings, duration, worst;
  let since;  // microseconds after the first
  const use = (columns, rows) => {
    const nothing = { codes: new Int8Array(rows).fill(-1), words: [] };
    const coded = name => columns[name] || nothing, numbers = name => columns[name] || [];
    ends = ['originator', 'responder'].map(which => ({
      ip: coded(which + '_ip'), role: coded(which + '_role'), place: coded(which + '_place'), instance: coded(which + '_instance'),
      component: coded(which + '_component'), port: numbers(which + '_port'), bytes: numbers(which + '_bytes'),
    }));
    [transport, application, disposition, verdict] = ['transport', 'application', 'disposition', 'authentication_verdict'].map(coded);
    [state, name, paths, findings] = ['conn_state', 'name', 'paths', 'findings'].map(coded);
    duration = numbers('duration');
    since = new Float64Array(rows);
    const steps = numbers('start');
    for (let row = 0, sum = 0; row < steps.length; row++) since[row] = sum += steps[row];
    // The worst severity of each list of findings, once.
    worst = findings.words.map(list => {
      const ranks = list.map(id => rules[id] ? WORST.indexOf(rules[id][1]) : 9);
      return ranks.length ? Math.min(...ranks) : 99;
    });
    have = rows;
  };
  let loading = null;
  const load = () => loading ||= (async () => {
    const columns = {};
    await Promise.all(head.names.filter(each => each !== 'id' && have < count).map(async each => {
      const numbers = $('c-' + each), texts = $('w-' + each);
      const made = new TYPES[numbers.dataset.type](await inflate(numbers.textContent));
      columns[each] = texts ? { codes: made, words: await unpack(texts.textContent) } : made;
      numbers.remove();
    }));
    if (have < count) use(columns, count);
  })();
  let ids = null;  // only a search for one needs them
  const loadIds = async () => { ids ??= head.names.includes('id') ? await unpack($('w-id').textContent) : []; };
  use(head.first, Math.min(count, (head.first.name || { codes: [] }).codes.length));
  const epoch = BigInt(head.epoch);
  const word = (column, row) => column.codes[row] < 0 ? '' : column.words[column.codes[row]];
  const epochMs = Number(epoch / 1000n), epochRest = Number(epoch % 1000n);
  const isoAt = after => {
    const micros = epochRest + after;
    const at = new Date(epochMs + Math.floor(micros / 1000)).toISOString();
    return at.slice(0, 23) + String(Math.floor(micros % 1000)).padStart(3, '0');
  };
  const iso = row => isoAt(since[row]);
  const oneDay = count > 0 && isoAt(0).slice(0, 10) === isoAt(head.last).slice(0, 10);
  const when = row => oneDay ? iso(row).slice(11, 23) : iso(row).slice(0, 23).replace('T', ' ');
  const bytes = row => Math.max(0, ends[0].bytes[row] || 0) + Math.max(0, ends[1].bytes[row] || 0);
  const size = n => {
    for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
      if (n < 1024 || unit === 'GiB') return unit === 'B' ? n + ' B' : n.toFixed(1) + ' ' + unit;
      n /= 1024;
    }
  };
  const length = micros => micros === undefined ? '' : micros < 1e6 ? (micros / 1e3).toFixed(1) + ' ms' : (micros / 1e6).toFixed(1) + ' s';
  const service = row => ends[1].port[row] >= 0 ? ends[1].port[row] + '/' + word(transport, row) : word(transport, row);
  const roleOf = (end, row) => word(end.role, row) || NOBODY;

  // -- filters: each says which words of a column it takes; rows are then compared by number alone.
  const fields = { q: $('f-q'), from: $('f-from'), to: $('f-to'), path: $('f-path'), verdict: $('f-verdict'), disposition: $('f-disposition'),
    rule: $('f-rule'), finding: $('f-finding'), app: $('f-app'), since: $('f-since'), until: $('f-until') };
  const fill = (key, show, order, more) => {
    const select = fields[key], counts = new Map([...head.choices[key], ...(more || [])]);
    select.replaceChildren(el('option', { value: '' }, 'any'));
    const keys = [...counts.keys()];
    keys.sort(order || ((a, b) => counts.get(b) - counts.get(a) || (a < b ? -1 : 1)));
    for (const key of keys) select.append(el('option', { value: key }, `${show(key)} (${counts.get(key).toLocaleString('en')})`));
    select.disabled = keys.length === 0;
  };
  for (const [end, key] of ['from', 'to'].entries()) {
    const none = head.choices.nobody[end];
    fill(key, visible, null, none && head.choices[key].length ? [[NOBODY, none]] : []);
  }
  fill('path', visible, (a, b) => a < b ? -1 : 1);
  fill('verdict', words, (a, b) => VERDICTS.indexOf(a) - VERDICTS.indexOf(b));
  fill('disposition', words);
  fill('app', visible);
  fill('rule', visible);
  fill('finding', id => (rules[id] ? rules[id][0] + ': ' + visible(rules[id][2]).slice(0, 60) : id));
  if (count) for (const key of ['since', 'until']) { fields[key].min = isoAt(0).slice(0, 19); }

  const every = new Uint32Array(count);
  for (let row = 0; row < count; row++) every[row] = row;
  let shown = every;
  let sort = { key: 'start', down: false };
  const isIn = (column, test) => { const ok = new Uint8Array(column.words.length + 1); column.words.forEach((value, code) => { if (test(value)) ok[code] = 1; }); return ok; };
  // An address is that address and no longer one: 10.0.0.1 is not 10.0.0.10, wherever it stands.
  const addressWithin = part => {
    const bare = part.replace(/^\[(.*)\]$/, '$1');
    let text = '';
    if (/^\d{1,3}(\.\d{1,3}){3}(:\d+)?$/.test(bare)) text = bare;
    else if (bare.split(':').length > 2) {
      try { text = new URL(`http://[${bare}]`).hostname.slice(1, -1); } catch { return null; }
    } else return null;
    const of = text.includes('.') ? '[0-9.]' : '[0-9a-f:.]', escaped = text.replace(/\./g, '\\.');
    return new RegExp(text.includes('.') ? `(?<![0-9]|[0-9]\\.)${escaped}(?![0-9]|\\.[0-9])` : `(?<!${of})${escaped}(?!${of})`, 'i');
  };
  const micros = text => (Date.parse(text + 'Z') - epochMs) * 1000 - epochRest;
  // The span of time that is asked for, in microseconds after the first connection; what is written less finely means all of its second or minute.
  const between = () => {
    const since = fields.since.value, until = fields.until.value;
    const fine = /T..:..$/.test(until) ? 6e7 : until.includes('.') ? 1e3 : 1e6;
    return [since ? micros(since) : -Infinity, until ? micros(until) + fine - 1 : Infinity];
  };
  const asked = () => Object.values(fields).some(field => field.value !== '');
  const SORTED = { key: 'start', down: false };
  const asItIs = () => sort.key === SORTED.key && sort.down === SORTED.down;
  const IDENTITY = /^[0-9a-f]{4,}$/;
  const searched = () => fields.q.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const take = () => {
    if (!asked()) { shown = every; return; }
    const tests = [];  // [codes, which codes]; -1 is the last place
    const by = (column, test, missing) => { const ok = isIn(column, test); if (missing) ok[column.words.length] = 1; tests.push([column.codes, ok, column.words.length]); };
    const value = key => fields[key].value;
    for (const [key, end] of [['from', ends[0]], ['to', ends[1]]]) {
      if (value(key) === NOBODY) by(end.role, () => false, true);
      else if (value(key)) by(end.place, each => each === value(key));
    }
    if (value('path')) by(paths, list => list.includes(value('path')));
    if (value('verdict')) by(verdict, each => each === value('verdict'));
    if (value('disposition')) by(disposition, each => each === value('disposition'));
    if (value('app')) by(application, each => each === value('app'));
    if (value('rule')) by(findings, list => list.some(id => rules[id] && rules[id][0] === value('rule')));
    if (value('finding')) by(findings, list => list.includes(value('finding')));
    const [low, high] = between();
    const wanted = searched().map(part => {
      const whole = addressWithin(part);
      const holds = whole ? each => whole.test(visible(each)) : each => visible(each).toLowerCase().includes(part);
      const columns = [...ends.flatMap(end => [end.ip, end.role, end.instance, end.component]), name, application, transport, state]
        .map(column => [column.codes, isIn(column, holds), column.words.length]);
      for (const column of [paths, findings]) columns.push([column.codes, isIn(column, list => list.some(holds)), column.words.length]);
      const split = whole && !part.startsWith('[') && part.split(':').length > 2 ? null : /^(.*):(\d+)$/.exec(part);
      const pair = split ? ends.map(end => [end.ip.codes, isIn(end.ip, each => each.toLowerCase() === split[1].replace(/^\[|\]$/g, '')), end.port, Number(split[2])]) : [];
      return { part, columns, pair, port: /^\d{1,5}$/.test(part) ? Number(part) : -1, id: IDENTITY.test(part) };
    });
    const found = new Uint32Array(count);
    let n = 0;
    rows: for (let row = 0; row < count; row++) {
      if (since[row] < low || since[row] > high) continue;
      for (const [codes, ok, none] of tests) if (!ok[codes[row] < 0 ? none : codes[row]]) continue rows;
      for (const { part, columns, pair, port, id } of wanted) {
        let hit = port >= 0 && (ends[0].port[row] === port || ends[1].port[row] === port);
        for (let i = 0; !hit && i < columns.length; i++) hit = columns[i][0][row] >= 0 && columns[i][1][columns[i][0][row]] === 1;
        for (let i = 0; !hit && i < pair.length; i++) hit = pair[i][0][row] >= 0 && pair[i][1][pair[i][0][row]] === 1 && pair[i][2][row] === pair[i][3];
        if (!hit && id && ids.length) hit = ids[row].startsWith(part);
        if (!hit) continue rows;
      }
      found[n++] = row;
    }
    shown = found.slice(0, n);
  };

  // -- order
  const rank = column => { const order = column.words.map((value, code) => [String(value), code]).sort((a, b) => a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0);
    const place = new Int32Array(column.words.length + 1); order.forEach(([, code], at) => { place[code] = at; }); place[column.words.length] = order.length;
    return row => place[column.codes[row] < 0 ? column.words.length : column.codes[row]]; };
  const verdictRank = row => { const at = VERDICTS.indexOf(word(verdict, row)); return at < 0 ? 9 : at; };
  const KEYS = {
    start: () => row => since[row], from: () => { const a = rank(ends[0].role), b = rank(ends[0].ip); return row => a(row) * 1e6 + b(row); },
    to: () => { const a = rank(ends[1].role), b = rank(ends[1].ip); return row => a(row) * 1e6 + b(row); },
    service: () => { const a = rank(application); return row => (ends[1].port[row] ?? -1) * 1e4 + a(row); }, path: () => { const a = rank(paths), b = rank(disposition); return row => b(row) * 1e6 + a(row); },
    verdict: () => verdictRank, findings: () => row => findings.codes[row] < 0 ? 99 : worst[findings.codes[row]],
    duration: () => row => duration[row] ?? -1, bytes: () => bytes,
  };
  const order = () => {
    if (asItIs()) return;
    const key = KEYS[sort.key](), values = new Float64Array(count);
    for (const row of shown) values[row] = key(row);
    const way = sort.down ? -1 : 1;
    shown = shown.slice().sort((a, b) => way * (values[a] - values[b]) || a - b);
  };

  // -- the table: only the rows in view exist; the room of the others is kept above and below.
  const table = $('table'), body = $('body'), room = $('rows');
  const WIDTHS = { start: oneDay ? 108 : 178, from: 0, to: 0, service: 132, path: 158, verdict: 112, findings: 88, duration: 82, bytes: 82 };
  const heads = [...table.tHead.rows[0].cells];
  for (const head of heads) {
    const key = head.dataset.key;
    if (WIDTHS[key]) head.style.width = WIDTHS[key] + 'px';
    const button = el('button', { type: 'button' }, head.textContent);
    button.addEventListener('click', () => { sort = { key, down: sort.key === key ? !sort.down : ['bytes', 'duration'].includes(key) }; apply(); });
    if (['duration', 'bytes'].includes(key)) head.classList.add('num');
    head.replaceChildren(button);
  }
  table.classList.toggle('unjudged', !head.names.includes('disposition') && !head.names.includes('paths'));
  table.setAttribute('role', 'grid');
  table.tabIndex = 0;
  let at = 0;
  const party = (end, row, short) => {
    const port = short ? -1 : end.port[row], ip = word(end.ip, row);
    const address = !(port >= 0) ? ip : ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
    const name = word(end.instance, row), who = name && name !== ip ? name : '';  // an entry of an inventory without a name has its address as name
    return el('td', { title: `${visible(who || roleOf(end, row))} ${visible(address)}` }, who || word(end.role, row) || '', el('span', { class: 'addr m' }, address));
  };
  const badge = row => {
    const list = findings.codes[row] < 0 ? [] : findings.words[findings.codes[row]];
    if (!list.length) return el('td');
    const severity = WORST[worst[findings.codes[row]]] || 'info';
    return el('td', {}, el('span', { class: 'sev ' + severity }, severity + (list.length > 1 ? ' +' + (list.length - 1) : '')));
  };
  const place = row => {
    const list = paths.codes[row] < 0 ? [] : paths.words[paths.codes[row]], kind = word(disposition, row);
    if (kind === 'documented' || (list.length && kind === '')) return el('td', { title: visible(list.join(' or ')) }, list.join(' or '));
    return el('td', {}, kind ? el('span', { class: 'tag ' + (kind === 'undeclared' ? kind : '') }, words(kind)) : '');
  };
  const line = index => {
    const row = shown[index], said = word(verdict, row);
    const made = el('tr', { id: 'row-' + index, 'aria-rowindex': index + 2, 'data-index': index },
      el('td', { class: 'm' }, when(row)), party(ends[0], row), party(ends[1], row, true), el('td', { title: `${service(row)} ${visible(word(application, row))}` }, el('span', { class: 'm' }, service(row)), ' ' + word(application, row)), place(row),
      el('td', {}, said && said !== 'not_applicable' ? el('span', { class: 'ver ' + said }, words(said)) : ''), badge(row),
      el('td', { class: 'num' }, length(duration[row])), el('td', { class: 'num' }, ends[0].bytes.length ? size(bytes(row)) : ''));
    if (index === at) { made.classList.add('at'); made.setAttribute('aria-selected', 'true'); }
    return made;
  };
  const spacer = height => { const made = el('tr', { class: 'gap', 'aria-hidden': 'true' }, el('td', { colspan: heads.length })); made.style.height = height + 'px'; return made; };
  let drawn = '';
  const draw = (force, first, last) => {
    let from = first ?? Math.max(0, Math.floor(room.scrollTop / ROW) - AROUND);
    let to = last ?? Math.min(shown.length, Math.ceil((room.scrollTop + room.clientHeight) / ROW) + AROUND);
    if (have < count && to > have) {
      load().then(() => draw(true));
      [from, to] = [Math.min(from, have), have];
    }
    const key = from + '-' + to;
    if (!force && key === drawn) return;
    drawn = key;
    const rows = [];
    if (from) rows.push(spacer(from * ROW));
    for (let index = from; index < to; index++) rows.push(line(index));
    if (to < shown.length && last === undefined) rows.push(spacer((shown.length - to) * ROW));
    body.replaceChildren(...rows);
    if (shown.length) table.setAttribute('aria-activedescendant', 'row-' + at); else table.removeAttribute('aria-activedescendant');
  };
  const go = index => {
    at = Math.max(0, Math.min(shown.length - 1, index));
    const top = at * ROW, view = room.clientHeight - 34;
    if (top < room.scrollTop) room.scrollTop = top;
    else if (top + ROW > room.scrollTop + view) room.scrollTop = top + ROW - view;
    draw(true);
  };
  room.addEventListener('scroll', () => draw(false), { passive: true });
  addEventListener('resize', () => draw(false));
  table.addEventListener('keydown', event => {
    if (event.target !== table) return;
    const page = Math.max(1, Math.floor(room.clientHeight / ROW) - 2);
    const step = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: shown.length - 1 }[event.key];
    if (step !== undefined) { event.preventDefault(); go(step); }
    else if ((event.key === 'Enter' || event.key === ' ') && shown.length) { event.preventDefault(); open(at); }
  });
  body.addEventListener('click', event => {
    const row = event.target.closest('tr[data-index]');
    if (row) { at = Number(row.dataset.index); draw(true); open(at); }
  });

  // -- one connection
  const drawer = $('drawer');
  const chunks = new Map();
  const record = async row => {
    const chunk = Math.floor(row / head.chunk);
    if (!$('d-' + chunk) && document.readyState === 'loading') await new Promise(done => addEventListener('DOMContentLoaded', done, { once: true }));
    if (!chunks.has(chunk)) chunks.set(chunk, unpack($('d-' + chunk).textContent));
    return (await chunks.get(chunk))[row % head.chunk];
  };
  const plain = value => value === null || value === undefined ? 'undecided' : value === true ? 'yes' : value === false ? 'no'
    : Array.isArray(value) && value.every(each => typeof each !== 'object') ? value.join(', ') : typeof value === 'object' ? JSON.stringify(value) : String(value);
  const facts = pairs => el('dl', { class: 'facts' }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== '')
    .flatMap(([title, value]) => [el('dt', {}, title), el('dd', {}, value)]));
  const endWords = end => [end.instance === end.ip ? '' : end.instance, end.role, end.component].filter(Boolean).join(', ') || (end.role === null ? 'in no inventory' : 'role not shown');
  const address = end => end.port === null || end.port === undefined ? end.ip : end.ip.includes(':') ? `[${end.ip}]:${end.port}` : `${end.ip}:${end.port}`;
  const frames = list => {
    const by = new Map();
    for (const [capture, frame] of list) by.set(capture, [...(by.get(capture) || []), frame]);
    return [...by].map(([capture, of]) => el('span', { class: 'row' }, of.sort((a, b) => a - b).slice(0, 40).join(', ') + (of.length > 40 ? ` and ${of.length - 40} more` : ''),
      captures.length > 1 ? el('span', { class: 'note' }, ' ' + (captures[capture] ?? capture)) : ''));
  };
  const PROTOCOLS = ['tls', 'ssh', 'mysql', 'nats', 'http'];
  let opened = -1;
  const open = async index => {
    opened = index;
    const row = shown[index], told = await record(row);
    if (row >= have) await load();
    if (opened !== index) return;
    const auth = told.authentication || {}, inside = told.inside || {}, from = told.originator || {}, to = told.responder || {};
    const button = (text, label, run, off) => { const made = el('button', { type: 'button', 'aria-label': label }, text); made.disabled = !!off; made.addEventListener('click', run); return made; };
    const parts = [];
    const list = (told.findings || []).map(id => {
      const link = el('a', { href: '#' + id }, rules[id] ? rules[id][2] : id);
      link.addEventListener('click', () => drawer.close());
      return el('span', { class: 'row' }, el('span', { class: 'sev ' + (rules[id] ? rules[id][1] : 'info') }, rules[id] ? rules[id][1] : ''), ' ', link);
    });
    if (list.length) parts.push(el('h3', {}, 'Findings'), ...list);
    parts.push(el('h3', {}, 'Connection'), facts([
      ['From', `${address(from)} (${endWords(from)})`], ['To', `${address(to)} (${endWords(to)})`],
      ['Start', told.start ? told.start.replace('T', ' ').replace('Z', ' UTC') : null], ['Duration', told.duration === undefined ? null : told.duration + ' s'],
      ['Policy', told.disposition ? words(told.disposition) + (inside.says && inside.says !== told.disposition ? ': ' + inside.says : '') : null], ['Paths', (told.paths || []).join(' or ')],
      ['Closest path', told.near_miss ? `${told.near_miss.path} (differs in ${told.near_miss.differs}): ${told.near_miss.says}` : null],
      ['Would be explained by', inside.sibling ? '--policy ' + inside.sibling : null],
      ['Sent', from.bytes === undefined ? null : `${from.packets} packets, ${size(from.bytes)}`], ['Answered', to.bytes === undefined ? null : `${to.packets} packets, ${size(to.bytes)}`],
      ['State', told.conn_state ? `${told.conn_state}, history ${told.history || 'empty'}; who opened it: by ${told.direction_by}` : null],
      ['Incomplete', inside.incomplete], ['Missed', told.missed_bytes ? size(told.missed_bytes) : null],
      ['Seen at', (told.vantages || []).join(', ')], ['Tunnel', told.tunnel ? plain(told.tunnel) : null], ['Frame', inside.first_frame ? `${inside.first_frame} of ${captures[inside.capture || 0]}` : null], ['Community ID', told.community_id],
      ['Id', told.id],
    ]));
    if (auth.verdict && auth.verdict !== 'not_applicable') {
      parts.push(el('h3', {}, 'Authentication'), facts([
        ['Verdict', el('span', { class: 'ver ' + auth.verdict }, words(auth.verdict))], ['Confidence', auth.confidence], ['Documented', plain(auth.required)], ['Observed', auth.observed || 'undecided'],
        ['Missing', inside.authentication_missing ? words(inside.authentication_missing) : null],
      ]));
      for (const factor of auth.factors || []) parts.push(el('p', {}, el('span', { class: 'ver ' + factor.verdict }, `${factor.name} ${factor.verdict}`), ': ' + factor.says));
    }
    if ((auth.evidence || []).length) {
      parts.push(el('h3', {}, 'Evidence'), el('table', { class: 'grid' }, el('thead', {}, el('tr', {}, ['Fact', 'Value', 'How sure', 'Frames'].map(text => el('th', { scope: 'col' }, text)))),
        el('tbody', {}, auth.evidence.map(each => el('tr', {}, el('th', { scope: 'row' }, el('code', {}, each.kind)), el('td', {}, plain(each.value)), el('td', {}, each.certainty), el('td', {}, frames(each.frames || [])))))));
    }
    for (const protocol of PROTOCOLS) if (told[protocol]) parts.push(el('h3', {}, protocol.toUpperCase()), facts(Object.entries(told[protocol]).map(([key, value]) => [words(key), plain(value)])));
    const at0 = inside.capture !== undefined ? captures[inside.capture] : captures[0];
    const review = document.documentElement.dataset.review;
    if (review && told.id) parts.push(el('p', { class: 'packets' }, el('a', { href: `${review}/connection/${encodeURIComponent(told.id)}` }, 'The packets of this connection, dissected')));
    if (told.id && captures.length) parts.push(el('h3', {}, 'See the packets'), el('p', { class: 'cmds' }, el('code', {}, `auditor dissect '${at0 || captures[0]}' --connection ${told.id}`)));
    const raw = { ...told }; delete raw.inside;
    parts.push(el('details', {}, el('summary', {}, 'The record as JSON'), el('pre', { tabindex: '0' })));
    parts[parts.length - 1].lastChild.textContent = JSON.stringify(raw, null, 1).split('\n').map(visible).join('\n');
    drawer.replaceChildren(el('header', {}, el('div', { class: 'tools' }, button('\u2191', 'Connection before', () => { go(index - 1); open(at); }, index === 0),
      button('\u2193', 'Next connection', () => { go(index + 1); open(at); }, index >= shown.length - 1), button('Close', 'Close', () => drawer.close())),
      el('h2', { id: 'drawer-title' }, `${from.role || from.ip || 'Connection'} to ${to.role || to.ip || ''}, ${service(row)}`)), el('div', { class: 'inside' }, parts));
    drawer.scrollTop = 0;
    if (!drawer.open) drawer.showModal();
  };
  drawer.addEventListener('click', event => { if (event.target === drawer) drawer.close(); });
  drawer.addEventListener('close', () => { opened = -1; table.focus({ preventScroll: true }); });

  // -- the address says what is filtered, so that a filter can be passed on
  let turn = 0;
  const apply = async () => {
    const mine = ++turn;
    if (have < count && (asked() || !asItIs())) await load();
    if (!ids && searched().some(part => IDENTITY.test(part))) await loadIds();
    if (mine !== turn) return;  // something else was asked for meanwhile
    take();
    order();
    at = 0;
    room.scrollTop = 0;
    for (const head of heads) { if (head.dataset.key === sort.key) head.setAttribute('aria-sort', sort.down ? 'descending' : 'ascending'); else head.removeAttribute('aria-sort'); }
    for (const field of Object.values(fields)) field.classList.toggle('on', field.value !== '');
    $('count').textContent = `${shown.length.toLocaleString('en')} of ${count.toLocaleString('en')} connections`;
    table.setAttribute('aria-rowcount', shown.length + 1);
    draw(true);
    window_();
  };
  // -- a span of time holds for the whole page: findings and bands of the map without a connection in it stand back
  const bands = [...document.querySelectorAll('#map .flow a')].map(link => [link, new URLSearchParams(link.getAttribute('href').split('?')[1])]);
  const seen = new Set(head.choices.finding.map(([id]) => id));
  const cards = [...document.querySelectorAll('details.finding')].filter(each => seen.has(each.id));
  const steps = [...document.querySelectorAll('.steps li[data-first]')].map(each => [each, ...['first', 'last'].map(name => Number(BigInt(each.dataset[name]) / 1000n - epoch))]);
  let spanned = '';
  const window_ = () => {
    const [low, high] = between(), told = $('span'), key = low + ' ' + high;
    if (key === spanned || (spanned === '' && low === -Infinity && high === Infinity)) return;
    spanned = key;
    const all = low === -Infinity && high === Infinity, inside = new Set(), edges = new Set();
    let opened = 0;
    for (let row = 0; row < count; row++) {
      if (since[row] < low || since[row] > high) continue;
      opened++;
      if (findings.codes[row] >= 0) for (const id of findings.words[findings.codes[row]]) inside.add(id);
      const ends_ = word(ends[0].place, row) + '\n' + word(ends[1].place, row) + '\n';
      edges.add(ends_ + 'disposition=' + word(disposition, row)).add(ends_ + 'verdict=' + word(verdict, row));
    }
    for (const each of cards) each.hidden = !all && ![each, ...each.querySelectorAll('details.finding')].some(one => inside.has(one.id));  // what it led to stands in it
    for (const each of document.querySelectorAll('section.rule')) each.hidden = !all && !each.querySelector('details.finding:not([hidden])');
    for (const link of document.querySelectorAll('.index a')) link.parentElement.hidden = Boolean($(link.getAttribute('href').slice(1))?.hidden);
    document.documentElement.classList.toggle('spanned', !all);
    for (const [each, first, last] of steps) each.hidden = first > high || last < low;
    for (const [link, asked] of bands) {
      const kind = asked.has('verdict') ? 'verdict=' + asked.get('verdict') : 'disposition=' + asked.get('disposition');
      link.classList.toggle('faint', !all && !edges.has(asked.get('from') + '\n' + asked.get('to') + '\n' + kind));
    }
    for (const drawing of document.querySelectorAll('.time')) shade(drawing, low, high);
    if (!told) return;
    told.hidden = all;
    if (all) return;
    const said = [fields.since.value && 'from ' + fields.since.value.replace('T', ' '), fields.until.value && 'to ' + fields.until.value.replace('T', ' ')].filter(Boolean).join(' ');
    const clear = el('button', { type: 'button' }, 'Show the whole time');
    clear.addEventListener('click', () => { fields.since.value = fields.until.value = ''; tell([]); apply(); write(); });
    told.replaceChildren(`Only connections opened ${said} UTC: ${opened.toLocaleString('en')} of ${count.toLocaleString('en')} connections, ${cards.filter(each => inside.has(each.id)).length} of ${cards.length} findings with connections. The summary is of all of the time.`, clear);
  };
  const scale = drawing => {
    const [left, right] = [Number(drawing.dataset.left), Number(drawing.dataset.right)];
    const [first, last] = ['first', 'last'].map(name => Number(BigInt(drawing.dataset[name]) / 1000n - epoch));
    const wide = Math.max(last - first, 1);
    return { left, right, at: x => first + (Math.max(left, Math.min(right, x)) - left) / (right - left) * wide, x: time => left + Math.max(0, Math.min(1, (time - first) / wide)) * (right - left) };
  };
  const shade = (drawing, low, high) => {
    const brush = drawing.querySelector('.brush'), to = scale(drawing);
    if (low === -Infinity && high === Infinity) { brush.setAttribute('visibility', 'hidden'); return; }
    brush.setAttribute('visibility', 'visible');
    brush.setAttribute('x', to.x(low));
    brush.setAttribute('width', Math.max(1, to.x(high) - to.x(low)));
  };
  for (const drawing of document.querySelectorAll('.time')) {
    const to = scale(drawing);
    const x = event => new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse()).x;
    let from = null, moved = false;
    drawing.addEventListener('pointerdown', event => {
      if (event.button || x(event) < to.left - 4 || x(event) > to.right + 4) return;
      [from, moved] = [x(event), false];
    });
    drawing.addEventListener('pointermove', event => {
      if (from === null || (!moved && Math.abs(x(event) - from) < 4)) return;
      if (!moved) drawing.setPointerCapture(event.pointerId);
      moved = true;
      shade(drawing, to.at(Math.min(from, x(event))), to.at(Math.max(from, x(event))));
    });
    const stop = () => { from = null; shade(drawing, ...between()); };
    drawing.addEventListener('pointercancel', stop);
    drawing.addEventListener('pointerup', event => {
      if (from === null || !moved) { from = null; return; }
      const ms = [from, x(event)].sort((a, b) => a - b).map(each => (to.at(each) + epochRest) / 1000 + epochMs);
      const text = time => new Date(time).toISOString().slice(0, 23);
      const until = Math.floor(ms[1]);
      fields.since.value = text(Math.floor(ms[0]));
      fields.until.value = text(until % 1000 ? until : until - 1);  // a whole second would mean all of it
      stop();
      tell([]);
      apply();
      write();
    });
    drawing.addEventListener('click', event => { if (moved) { event.preventDefault(); moved = false; } }, true);
    drawing.addEventListener('dragstart', event => event.preventDefault());
  }
  // -- what the address asks for and this page does not have
  const tell = what => {
    const told = $('unknown');
    told.hidden = !what.length;
    told.replaceChildren(...(what.length ? [el('b', {}, 'The address of this page contains unknown values: '), el('span', {}, what.join('; ') + '.')] : []));
  };
  const write = () => {
    const said = new URLSearchParams();
    for (const [key, field] of Object.entries(fields)) if (field.value) said.set(key, field.value);
    const text = said.toString();
    history.replaceState(null, '', '#connections' + (text ? '?' + text : ''));
  };
  const NAMES = { q: 'Search', from: 'From role', to: 'To role', path: 'Path', verdict: 'Verdict', disposition: 'Disposition', rule: 'Rule', finding: 'Finding', app: 'Application', since: 'Since', until: 'Until' };
  const read = async () => {
    const hash = location.hash.slice(1), unknown = [];
    if (location.search && !document.documentElement.dataset.review) unknown.push(`filters must follow #connections?, so ${location.search} is ignored`);
    if (hash.startsWith('connection=')) {
      await Promise.all([load(), loadIds()]);
      const row = ids.indexOf(plainHash().slice(11));
      if (row < 0) { tell([...unknown, `no connection here has the id ${plainHash().slice(11)}`]); return; }
      tell(unknown);
      $('filters').reset();
      await apply();
      go(shown.indexOf(row));
      $('connections').scrollIntoView();
      open(at);
      return;
    }
    if (!hash.startsWith('connections?')) {
      if (hash && !$(plainHash())) unknown.push(`nothing here has the name #${plainHash()}`);
      tell(unknown);
      return;
    }
    const said = new URLSearchParams(hash.slice(12));
    for (const key of new Set(said.keys())) {
      if (!(key in fields)) unknown.push(`unknown filter ${key}, ignored (filters: ${Object.keys(fields).join(', ')})`);
      else if (said.getAll(key).length > 1) unknown.push(`${key} is given several times; the first one is used`);
    }
    for (const [key, field] of Object.entries(fields)) {
      let value = said.get(key) || '';
      if (value && field.type === 'datetime-local' && !/^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?$/.test(value)) {
        unknown.push(`${key}=${value} is not a time such as 2026-11-30T15:12:10, ignored`);
        value = '';
      }
      field.querySelectorAll('option[data-unknown]').forEach(each => each.remove());
      field.value = value;
      if (!value || field.value !== '') continue;
      if (field.tagName === 'SELECT') {  // it holds, as nothing: all connections would be another answer than was asked for
        field.append(el('option', { value, 'data-unknown': '' }, `${value} (0)`));
        field.value = value;
        unknown.push(`no connection here has the ${NAMES[key].toLowerCase()} ${value}`);
      } else unknown.push(`${key}=${value} is not a valid time, ignored`);
    }
    tell(unknown);
    await apply();
    $('connections').scrollIntoView();
  };
  let waiting = 0;
  $('filters').addEventListener('submit', event => event.preventDefault());
  $('filters').addEventListener('input', event => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { tell([]); apply(); write(); }, event.target === fields.q ? 90 : 0);
  });
  $('filters').addEventListener('reset', () => setTimeout(() => { tell([]); apply(); write(); }));
  addEventListener('hashchange', read);
  addEventListener('beforeprint', () => draw(true, 0, Math.min(shown.length, PRINTED)));
  addEventListener('afterprint', () => draw(true));
  document.documentElement.classList.add('scripted');
  await apply();
  document.documentElement.dataset.shown = String(Math.round(performance.now()));
  const asks = read();
  await new Promise(done => 'requestIdleCallback' in window ? requestIdleCallback(done, { timeout: 500 }) : setTimeout(done, 50));
  await Promise.all([load(), asks]);
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
};
start();
})();
