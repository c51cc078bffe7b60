// Runs the script of a web page in a document that has just what the script uses: no browser is needed.
// `node page.mjs ADDRESS ACTIONS` opens the page, then does each action: {"click": ID of a button} or {"submit": {NAME
// of a field: value}}. It prints {"requests": [{method, address, status}], "states": [{listings, message, more}]}: what
// the script has sent, and what the page shows at first and after each action.
//
// Requests go to another origin, and are made as the Fetch standard says ("CORS protocol"): a preflight request comes
// first, and only answers that allow the origin of the page, or any, can be read.

const [address, actions] = process.argv.slice(2);
const page = new URL(address);
const send = globalThis.fetch;
const requests = [];
const underway = [];

class Element {
  children = [];
  listeners = {};
  values = {};

  constructor(tag) {
    this.tag = tag;
  }

  append(...children) {
    this.children.push(...children);
  }

  replaceChildren(...children) {
    this.children = children;
  }

  addEventListener(type, listener) {
    this.listeners[type] = listener;
  }

  happens(type) {
    this.listeners[type]({ type, preventDefault() {} });
  }
}

/** Returns the elements of the page that its script may look for: the form, and those with an id. */
function elementsOf(html) {
  const form = new Element("form");
  for (const [, name] of html.matchAll(/<(?:input|select)\s[^>]*?\bname="(\w+)"/g)) form.values[name] = "";
  const found = { form };
  for (const [, tag, id] of html.matchAll(/<(\w+)\s[^>]*?\bid="(\w+)"/g)) found[`#${id}`] = new Element(tag);
  return found;
}

async function request(url, method, headers) {
  const answer = await send(url, { method, headers: { ...headers, Origin: page.origin } });
  const text = await answer.text();
  requests.push({ method, address: url.href, status: answer.status });
  const allowed = answer.headers.get("access-control-allow-origin");
  if (allowed !== "*" && allowed !== page.origin) throw new TypeError("Failed to fetch");
  return { ok: answer.ok, headers: answer.headers, json: async () => JSON.parse(text) };
}

async function ask(url, { method = "GET", headers = {} }) {
  const names = Object.keys(headers).map((name) => name.toLowerCase());
  const asked = { "Access-Control-Request-Method": method, "Access-Control-Request-Headers": names.sort().join(",") };
  const preflight = await request(url, "OPTIONS", asked);
  const listed = (name) => (preflight.headers.get(name) ?? "").toLowerCase().split(/\s*,\s*/);
  const methods = listed("access-control-allow-methods");
  const allowed = listed("access-control-allow-headers");
  if (!preflight.ok || !methods.includes(method.toLowerCase()) || !names.every((name) => allowed.includes(name))) {
    throw new TypeError("Failed to fetch");
  }
  return request(url, method, headers);
}

/** Waits until all requests are answered, and the script has done what it does then. */
async function idle() {
  while (underway.length) await underway.pop().catch(() => {});
  await new Promise(setImmediate);
}

function shown(elements) {
  const part = (item, tag) => item.children.find((each) => each.tag === tag);
  const listings = elements["#listings"].children.map((item) => ({
    title: part(item, "h2").textContent,
    facts: part(item, "p").textContent,
    picture: part(item, "img")?.src ?? null,
  }));
  return { listings, message: elements["#message"].textContent, more: !elements["#more"].hidden };
}

const html = await (await send(page)).text();
const [, script] = html.match(/<script type="module">([^]*?)<\/script>/);
const elements = elementsOf(html);

globalThis.location = page;
globalThis.document = {
  querySelector: (selector) => elements[selector] ?? null,
  getElementById: (id) => elements[`#${id}`] ?? null,
  createElement: (tag) => new Element(tag),
};
globalThis.FormData = class {
  constructor(form) {
    this.values = form.values;
  }

  [Symbol.iterator]() {
    return Object.entries(this.values)[Symbol.iterator]();
  }
};
globalThis.fetch = (url, options = {}) => {
  const answer = ask(new URL(url, page), options);
  underway.push(answer);
  return answer;
};

await import(`data:text/javascript,${encodeURIComponent(script)}`);
await idle();
const states = [shown(elements)];
for (const { click, submit } of JSON.parse(actions)) {
  if (click) elements[`#${click}`].happens("click");
  if (submit) {
    Object.assign(elements.form.values, submit);
    elements.form.happens("submit");
  }
  await idle();
  states.push(shown(elements));
}
console.log(JSON.stringify({ requests, states }));
