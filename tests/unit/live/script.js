// Runs celery_runpod.js in a page that is made of as little as it needs, and prints what happened as JSON.
// Usage: node script.js <path of the script> <scenario>
"use strict";
const fs = require("node:fs");
const vm = require("node:vm");

const [, , file, scenario] = process.argv;
const seen = { created: [], events: [], requests: [], opened: [], closed: 0, text: [], state: null, error: null };
const timers = [];

class Node {
  constructor(tag) {
    this.tag = tag;
    this.children = [];
    this.attributes = {};
    this.dataset = {};
  }
  get childNodes() {
    return this.children;
  }
  adopted(nodes) {
    for (const one of nodes) if (one instanceof Node) one.parent = this;
    return nodes;
  }
  append(...nodes) {
    this.children = [...this.children, ...this.adopted(nodes)];
  }
  prepend(...nodes) {
    this.children = [...this.adopted(nodes), ...this.children];
  }
  replaceChildren(...nodes) {
    this.children = this.adopted(nodes);
  }
  remove() {
    this.parent.children = this.parent.children.filter((one) => one !== this);
  }
  setAttribute(name, value) {
    this.attributes[name] = value;
  }
  getAttribute(name) {
    return this.attributes[name] ?? null;
  }
  hasAttribute(name) {
    return name in this.attributes;
  }
  dispatchEvent(event) {
    seen.events.push([event.type, event.detail]);
  }
  get isConnected() {
    return true;
  }
}

class EventSource {
  static CLOSED = 2;
  constructor(url) {
    seen.opened.push(url);
    this.readyState = 0;
    this.listeners = {};
    EventSource.last = this;
  }
  addEventListener(name, listener) {
    this.listeners[name] = listener;
  }
  close() {
    this.readyState = 2;
    seen.closed += 1;
  }
  say(data) {
    this.listeners.update({ data: typeof data === "string" ? data : JSON.stringify(data) });
  }
  fail() {
    this.readyState = EventSource.CLOSED;
    this.listeners.error({});
  }
}

let answers = [];
async function fetch(url, options) {
  seen.requests.push([url, options.credentials]);
  const answer = answers.length > 1 ? answers.shift() : answers[0];
  if (answer instanceof Error) throw answer;
  return { ok: answer.status === 200, status: answer.status, text: async () => JSON.stringify(answer.body) };
}

const registry = {};
const page = {
  HTMLElement: class extends Node {
    constructor() {
      super("runpod-job");
    }
  },
  CustomEvent: class {
    constructor(type, given) {
      Object.assign(this, { type, ...given });
    }
  },
  customElements: { get: (name) => registry[name], define: (name, made) => (registry[name] = made) },
  document: {
    createElement: (tag) => {
      seen.created.push(tag);
      return new Node(tag);
    },
  },
  EventSource,
  fetch,
  setTimeout: (work, ms) => timers.push([work, ms]) && timers.length,
  clearTimeout: () => {},
  JSON, Object, Number, Math, String,
};
page.window = page;
vm.runInNewContext(fs.readFileSync(file, "utf8"), page);

const RUNNING = { task: "t1", state: "IN_PROGRESS", reason: null, progress: null, ended: false, error: null, step: null };
const element = new registry["runpod-job"]();
const settle = () => new Promise((resolve) => setImmediate(resolve));

function shown() {
  const textOf = (one) => one.textContent ?? one.value ?? one.children.map((part) => part.tag ?? part).join("|");
  seen.text = element.children.map((one) => [one.tag, one.className, textOf(one)]);
  seen.state = element.dataset.state ?? null;
}

const scenarios = {
  async html() {
    element.setAttribute("task", "t 1&x=<b>");
    element.connectedCallback();
    EventSource.last.say({
      ...RUNNING,
      state: "<img src=x onerror=alert(1)>",
      reason: "<script>alert(2)</script>",
      progress: { message: "<b onclick=alert(3)>" },
    });
  },
  async progress() {
    element.setAttribute("task", "t1");
    element.connectedCallback();
    EventSource.last.say({ ...RUNNING, progress: { step: 3, of: 4 } });
  },
  async step() {
    element.setAttribute("task", "last");
    element.connectedCallback();
    const step = { ...RUNNING, state: "IN_QUEUE", reason: "COLD_START" };
    EventSource.last.say({ ...RUNNING, state: "PENDING", reason: "EARLIER_STEP", step });
  },
  async end() {
    element.setAttribute("task", "t1");
    element.connectedCallback();
    EventSource.last.say(RUNNING);
    EventSource.last.say("{ cut off");
    const error = { type: "JobFailed", message: "no <b>memory</b>" };
    EventSource.last.say({ ...RUNNING, state: "FAILURE", ended: true, error });
    EventSource.last.say(RUNNING);
  },
  async polling() {
    element.setAttribute("task", "t1");
    element.setAttribute("src", "/gpu/job");
    element.connectedCallback();
    answers = [
      { status: 200, body: RUNNING },
      { status: 503 },
      new Error("the network is away"),
      { status: 200, body: { ...RUNNING, state: "SUCCESS", ended: true } },
    ];
    EventSource.last.fail();
    await settle();
    for (let turn = 0; turn < 3; turn += 1) {
      timers.at(-1)[0]();
      await settle();
    }
  },
  async chunks() {
    element.setAttribute("task", "t1");
    element.connectedCallback();
    const chunk = (id, output) => ({ id, output, attempt: 1, event: "chunk" });
    EventSource.last.listeners.chunk({ data: JSON.stringify(chunk("1-0", "<b>")) });
    const ended = { ...RUNNING, state: "SUCCESS", ended: true };
    answers = [
      { status: 200, body: { ...RUNNING, chunks: [chunk("2-0", "b")] } },
      { status: 200, body: { ...ended, chunks: [chunk("3-0", "c")] } },
      { status: 200, body: { ...ended, chunks: [] } },
    ];
    EventSource.last.fail();
    await settle();
    for (let turn = 0; turn < 2; turn += 1) {
      timers.at(-1)[0]();
      await settle();
    }
  },
  async shownChunks() {
    const say = (event, output) =>
      EventSource.last.listeners.chunk({ data: JSON.stringify({ id: "1-0", output, attempt: 1, event }) });
    if (process.argv[4]) element.setAttribute("no-chunks", "");
    element.setAttribute("task", "t1");
    element.connectedCallback();
    say("chunk", "a first try");
    EventSource.last.say(RUNNING);
    say("retry", null);
    for (const one of ["<b>once\n", "upon\n\na", 7, null]) say("chunk", one);
    say("gap", null);
    say("chunk", { choices: [{ tokens: ["ti", "me"] }], usage: { input: 3 } });
    say("chunk", { choices: [{ index: 0, delta: { content: " was" } }] });
    say("chunk", { preview: "<img>" });
    EventSource.last.say({ ...RUNNING, state: "SUCCESS", ended: true });
  },
  async anotherTask() {
    await scenarios.shownChunks();
    element.setAttribute("task", "t2");
    element.attributeChangedCallback();
    EventSource.last.say(RUNNING);
  },
  async refused() {
    element.setAttribute("task", "t1");
    element.connectedCallback();
    answers = [{ status: 404 }];
    EventSource.last.fail();
    await settle();
  },
  async reconnecting() {
    element.setAttribute("task", "t1");
    element.connectedCallback();
    EventSource.last.readyState = 0;
    EventSource.last.listeners.error({});
    await settle();
  },
  async removed() {
    element.setAttribute("task", "t1");
    element.connectedCallback();
    const source = EventSource.last;
    element.disconnectedCallback();
    source.say(RUNNING);
  },
};

scenarios[scenario]().then(() => {
  shown();
  console.log(JSON.stringify({ ...seen, waits: timers.map((one) => one[1]) }));
});
