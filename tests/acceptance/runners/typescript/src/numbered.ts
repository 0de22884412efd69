// One numbered stream of one attempt: each message once, in order, however often the stream is cut.

import { Code } from "@connectrpc/connect";

import { Backoff, isTooLarge, Pulse, refusal } from "./link.js";

const WAITING = 1_000; // messages that may be unacknowledged before `put` waits
const HISTORY = 10_000; // acknowledged messages that are kept in case the scheduler goes back
const BATCH = 100;
const OPEN_MS = 10_000;
const ACKNOWLEDGE_MS = 60_000;
const FINAL = [Code.Aborted, Code.NotFound, Code.InvalidArgument];

/** The attempt is not this runner's any more. */
export class Lost extends Error {}

export interface Batch<M> {
  firstNumber: bigint;
  messages: M[];
}

type Exchange<M> = (
  requests: AsyncIterable<Batch<M> | "opening">,
  signal: AbortSignal,
) => AsyncIterable<{ committedNumber: bigint }>;

export class NumberedStream<M> {
  private kept: M[] = []; // kept[0] has number `oldest`
  private oldest = 1;
  private committed = 0;
  private sent = 0;
  private singlyUntil = 0;
  private readonly pulse = new Pulse();
  private readonly backoff = new Backoff();
  private stream = new AbortController();
  private stopped = false;

  constructor(
    private readonly exchange: Exchange<M>,
    private readonly smaller: (message: M) => M,
    private readonly onOutstanding: () => void = () => {},
  ) {}

  get last(): number {
    return this.oldest + this.kept.length - 1;
  }

  async put(message: M): Promise<void> {
    await this.pulse.until(() => this.last - this.committed < WAITING);
    this.kept.push(message);
    this.pulse.beat();
  }

  delivered(): Promise<void> {
    return this.pulse.until(() => this.committed === this.last);
  }

  /** Ask the scheduler again how far it has come. */
  reopen(): void {
    this.stream.abort();
  }

  stop(): void {
    this.stopped = true;
    this.stream.abort();
  }

  /** Deliver until stopped. Throws Lost. */
  async run(): Promise<void> {
    while (!this.stopped) {
      try {
        await this.deliver();
      } catch (error) {
        if (error instanceof Lost) throw error;
        if (!this.stopped) this.consider(refusal(error));
      }
      await this.backoff.wait();
    }
  }

  private consider(said: ReturnType<typeof refusal>): void {
    if (said.reason === "RESULTS_OUTSTANDING") this.onOutstanding();
    if (FINAL.includes(said.code)) throw new Lost(said.message);
    if (!isTooLarge(said)) return;
    const at = this.committed + 1 - this.oldest;
    if (this.committed < this.singlyUntil) this.kept[at] = this.smaller(this.kept[at]!);
    this.singlyUntil = this.sent;
  }

  /** One stream, from its opening to its end. */
  private async deliver(): Promise<void> {
    const stream = (this.stream = new AbortController());
    let opened = false;
    const watch = setInterval(() => stream.abort(), OPEN_MS);
    let heard = Date.now();
    const late = setInterval(() => {
      if (this.committed === this.last) heard = Date.now();
      if (Date.now() - heard > ACKNOWLEDGE_MS) stream.abort();
    }, 1_000);
    try {
      for await (const { committedNumber } of this.exchange(this.requests(() => opened, stream.signal), stream.signal)) {
        heard = Date.now();
        clearInterval(watch);
        if (opened) this.acknowledge(Number(committedNumber));
        else this.resume(Number(committedNumber));
        opened = true;
        this.pulse.beat();
      }
    } finally {
      clearInterval(watch);
      clearInterval(late);
      stream.abort();
      this.pulse.beat();
    }
  }

  private async *requests(opened: () => boolean, signal: AbortSignal): AsyncGenerator<Batch<M> | "opening"> {
    yield "opening" as const;
    for (;;) {
      await this.pulse.until(() => signal.aborted || (opened() && this.maySend()));
      if (signal.aborted) return;
      const from = this.sent + 1 - this.oldest;
      const messages = this.kept.slice(from, from + (this.committed < this.singlyUntil ? 1 : BATCH));
      const firstNumber = BigInt(this.sent + 1);
      this.sent += messages.length;
      yield { firstNumber, messages };
    }
  }

  private maySend(): boolean {
    return this.sent < this.last && (this.committed >= this.singlyUntil || this.sent === this.committed);
  }

  private acknowledge(number: number): void {
    if (number <= this.committed) return;
    if (number > this.sent) throw new Lost(`${number} is acknowledged, ${this.sent} was sent last`);
    this.committed = number;
    this.backoff.reset();
    const surplus = this.committed + 1 - this.oldest - HISTORY;
    if (surplus > 0) {
      this.kept.splice(0, surplus);
      this.oldest += surplus;
    }
  }

  private resume(number: number): void {
    if (number > this.last || number < this.oldest - 1) throw new Lost(`the scheduler states ${number}`);
    this.committed = this.sent = number;
  }
}
