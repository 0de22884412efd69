// The way to the scheduler: connections that notice a frozen peer, what refusals mean, how long to wait.

import { setTimeout as sleep } from "node:timers/promises";

import type { Duration } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";

const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 5_000;

const RETIRE_MS = 1_000;

/**
 * A connection of its own. `cut` breaks it and every call on it. `retire` does so a little later: a connection that
 * has just missed its ping is about to emit that error, and aborting the session manager would take its listener away.
 */
export function link(address: string) {
  const baseUrl = `http://${address}`;
  const sessionManager = new Http2SessionManager(baseUrl, { pingIntervalMs: 5_000, pingTimeoutMs: 3_000 });
  const transport = createGrpcTransport({ baseUrl, sessionManager, readMaxBytes: 64 << 20 });
  const cut = () => sessionManager.abort();
  return { transport, cut, retire: () => setTimeout(cut, RETIRE_MS).unref() };
}

/** Code and reason; an error that is not the mesh's own has no reason. */
export function refusal(error: unknown) {
  const said = ConnectError.from(error);
  const reason = said.findDetails(ErrorInfoSchema)[0]?.reason;
  return { code: said.code, reason, message: said.rawMessage };
}

export function isTooLarge({ code, reason, message }: ReturnType<typeof refusal>): boolean {
  return code === Code.ResourceExhausted && (reason === "MESSAGE_TOO_LARGE" || message.includes("message larger than max"));
}

export function durationMs({ seconds, nanos }: Duration): number {
  return Number(seconds) * 1_000 + nanos / 1e6;
}

/** Waits between tries: doubling, with jitter. */
export class Backoff {
  private delay = FIRST_DELAY_MS;

  reset(): void {
    this.delay = FIRST_DELAY_MS;
  }

  async wait(): Promise<void> {
    await sleep(this.delay * (0.1 + 0.9 * Math.random()));
    this.delay = Math.min(2 * this.delay, LONGEST_DELAY_MS);
  }
}

/** Lets others wait until something has changed. */
export class Pulse {
  private waiters: (() => void)[] = [];

  beat(): void {
    for (const wake of this.waiters.splice(0)) wake();
  }

  async until(true_: () => boolean): Promise<void> {
    while (!true_()) await new Promise<void>((wake) => this.waiters.push(wake));
  }
}
