// Elements made by code. Text is always text: nothing here reads HTML.
const SVG = 'http://www.w3.org/2000/svg';

/** Makes an element: h('button.primary', { onclick, 'aria-label': … }, child, …). */
export function h(what, ...rest) {
  const [tag, ...classes] = what.split('.');
  const el = document.createElement(tag || 'div');
  if (classes.length) el.className = classes.join(' ');
  return fill(el, rest);
}

/** Makes an element of SVG. */
export function s(what, ...rest) {
  const [tag, ...classes] = what.split('.');
  const el = document.createElementNS(SVG, tag);
  if (classes.length) el.setAttribute('class', classes.join(' '));
  return fill(el, rest);
}

function fill(el, rest) {
  for (const part of rest.flat(3)) {
    if (part === null || part === undefined || part === false) continue;
    if (typeof part === 'object' && !(part instanceof Node)) attributes(el, part);
    else el.append(part instanceof Node ? part : String(part));
  }
  return el;
}

function attributes(el, all) {
  for (const [name, value] of Object.entries(all)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) el.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked' || name === 'disabled' || name === 'hidden') el[name] = value;
    else el.setAttribute(name, value === true ? '' : value);
  }
}

/** Replaces what an element contains. */
export function put(el, ...children) {
  el.replaceChildren(...children.flat(3).filter((c) => c !== null && c !== undefined && c !== false));
  return el;
}

/** Calls fn repeatedly, once the last call is over, until the element leaves the page. */
export function every(ms, el, fn) {
  let seen = false;
  const turn = async () => {
    seen ||= el.isConnected;
    if (seen && !el.isConnected) return;
    if (!document.hidden) {
      try { await fn(); } catch (error) { if (error.status !== 401) console.warn(error); }
    }
    setTimeout(turn, ms);
  };
  turn();
}

let toastTimer;
/** Tells something for a moment. */
export function toast(text, kind = '') {
  const box = document.getElementById('toasts');
  put(box, h(`div.toast${kind ? `.${kind}` : ''}`, text));
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => put(box), 4500);
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // where the page is not served with TLS
    const area = h('textarea.unseen', { value: text, 'aria-label': 'copied text' });
    (document.querySelector('dialog[open]') ?? document.body).append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
  toast('Copied');
}

/** Shows a dialog. make gets a function that closes it and gives the result. */
export function dialog(label, make) {
  const before = document.activeElement;
  return new Promise((resolve) => {
    const close = (result) => {
      box.close();
      box.remove();
      before?.focus?.();
      resolve(result);
    };
    const box = h('dialog', { 'aria-label': label, oncancel: (e) => { e.preventDefault(); close(); } });
    box.append(make(close));
    document.body.append(box);
    box.showModal();
  });
}

/** Asks before something is removed. */
export function confirmed(title, text, action) {
  return dialog(title, (close) => h('div.sheet',
    h('h2', title), h('p.quiet', text),
    h('div.buttons',
      h('button.button', { type: 'button', onclick: () => close(false) }, 'Cancel'),
      h('button.button.danger', { type: 'button', onclick: () => close(true) }, action))));
}

/** A dialog with a form; submit gets its fields, and an error that it throws is shown. */
export function formDialog(title, fields, action, submit) {
  return dialog(title, (close) => {
    const problem = h('p.problem', { role: 'alert' });
    const form = h('form', { novalidate: true, onsubmit: async (e) => {
      e.preventDefault();
      button.disabled = true;
      problem.textContent = '';
      try {
        close(await submit(Object.fromEntries(new FormData(form)), form) ?? true);
      } catch (error) {
        problem.textContent = error.message;
        button.disabled = false;
      }
    } });
    const button = h('button.button.primary', { type: 'submit' }, action);
    fillForm(form, h('h2', title), fields, problem,
      h('div.buttons', h('button.button', { type: 'button', onclick: () => close() }, 'Cancel'), button));
    return form;
  });
}

function fillForm(form, ...children) { form.append(...children.flat(3).filter(Boolean)); }

let fieldCount = 0;
/** A labelled input. */
export function field(label, name, attrs = {}, hint = '') {
  const id = `f${++fieldCount}`;
  const { options, area, ...rest } = attrs;
  const input = options ? h('select.select', { id, name, ...rest }, options.map(([value, text]) => h('option', { value }, text ?? value)))
    : area ? h('textarea.area', { id, name, spellcheck: 'false', ...rest })
      : h('input.input', { id, name, type: 'text', autocomplete: 'off', spellcheck: 'false', ...rest });
  if (hint) input.setAttribute('aria-describedby', `${id}h`);
  return h('div.field', h('label', { for: id }, label), input, hint && h('span.hint', { id: `${id}h` }, hint));
}

export function check(label, name, checked, hint = '') {
  return h('label.check', h('input', { type: 'checkbox', name, checked, value: 'true' }), h('span', label, hint && h('span.quiet.small', ` ${hint}`)));
}
