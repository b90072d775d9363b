// The node's WebSocket: one connection, logged in by its first frame, subscriptions with resume.
// Knows: frames, reconnecting. Must not know: what an event means.

export interface Notice {
  topic: string;
  seq: number;
  result: unknown;
  missed: number;
  newest: number; // sequence number when we subscribed: what is not above it is replayed
}
export interface Hooks {
  token: () => string;
  onNotice: (notice: Notice) => void;
  onState: (isOpen: boolean, refusal: string) => void;
}
interface Frame {
  id?: number;
  method?: string;
  params?: { subscription: string; seq: number; result: unknown; missed?: number };
  result?: { subscription?: string; topic?: string; seq?: number };
  error?: { message: string; data?: { reason?: string } };
}

const WAIT_MS = [500, 1000, 2000, 4000, 8000];
const REFUSED_MS = 10_000;

export class Socket {
  private socket: WebSocket | null = null;
  private readonly last = new Map<string, number>();
  private readonly topics = new Map<string, string>();
  private readonly newest = new Map<string, number>();
  private readonly asked = new Map<number, string>();
  private early: Frame[] = [];
  private serial = 1;
  private tries = 0;
  private timer = 0;
  private wanted: string[] = [];

  constructor(private readonly hooks: Hooks) {}

  open(topics: string[]): void {
    this.wanted = topics;
    this.connect();
  }

  close(): void {
    this.wanted = [];
    clearTimeout(this.timer);
    this.socket?.close(1000);
    this.socket = null;
    this.last.clear();
  }

  private connect(): void {
    clearTimeout(this.timer);
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    this.socket = socket;
    this.topics.clear();
    this.asked.clear();
    this.early = [];
    let hasOpened = false;
    socket.onopen = () => {
      hasOpened = true;
      this.send("rpc_login", { token: this.hooks.token() });
    };
    socket.onmessage = (event) => this.read(JSON.parse(String(event.data)) as Frame);
    socket.onclose = (event) => {
      if (this.socket !== socket) return;
      this.hooks.onState(false, event.reason);
      if (this.wanted.length === 0) return;
      // Where there is no such door, asking again is of no use for a while.
      const wait = hasOpened ? (WAIT_MS[Math.min(this.tries++, WAIT_MS.length - 1)] ?? 8000) : REFUSED_MS;
      this.timer = window.setTimeout(() => this.connect(), wait * (0.75 + Math.random() / 2));
    };
  }

  private send(method: string, params: object): number {
    const id = this.serial++;
    this.asked.set(id, method);
    this.socket?.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    return id;
  }

  /** One after the other: all replays at once would fill the node's queue for us. */
  private subscribe(at: number): void {
    const topic = this.wanted[at];
    if (topic === undefined) return;
    const id = this.send("sub_subscribe", { topic, resume_from: this.last.get(topic) ?? 0 });
    this.asked.set(id, `topic ${topic}`);
  }

  private read(frame: Frame): void {
    if (frame.method === "prsm_subscription") {
      this.deliver(frame);
      return;
    }
    const what = frame.id === undefined ? undefined : this.asked.get(frame.id);
    if (what === "rpc_login") {
      if (frame.error) {
        this.hooks.onState(false, frame.error.message);
        this.socket?.close(1000);
        return;
      }
      this.tries = 0;
      this.hooks.onState(true, "");
      this.subscribe(0);
    } else if (what?.startsWith("topic ")) {
      const topic = what.slice(6);
      this.subscribe(this.wanted.indexOf(topic) + 1);
      if (!frame.result?.subscription) return; // not with this token
      this.topics.set(frame.result.subscription, topic);
      const newest = frame.result.seq ?? 0;
      this.newest.set(topic, newest);
      if (newest < (this.last.get(topic) ?? 0)) this.last.set(topic, 0); // another start of the node
      // A notification may overtake the answer that names its subscription.
      const waiting = this.early;
      this.early = [];
      for (const one of waiting) this.deliver(one);
    }
  }

  private deliver(frame: Frame): void {
    const body = frame.params;
    if (!body) return;
    const topic = this.topics.get(body.subscription);
    if (topic === undefined) {
      if (this.early.length < 20_000) this.early.push(frame);
      return;
    }
    this.last.set(topic, body.seq);
    this.hooks.onNotice({ topic, seq: body.seq, result: body.result, missed: body.missed ?? 0, newest: this.newest.get(topic) ?? 0 });
  }
}
