// A runner of VisionMesh, made from docs/protocol.md: it learns colours, on one slot.
//
//     node dist/main.js 127.0.0.1:50051

import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";

import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, createClient } from "@connectrpc/connect";

import { Attempt } from "./attempt.js";
import { RunnerService, type Assignment, type AttemptRef, type ConnectRequestSchema } from "./gen/visionmesh/v1/runner_pb.js";
import { AttemptCause, AttemptState, Task } from "./gen/visionmesh/v1/vision_pb.js";
import { Backoff, durationMs, link, Pulse, refusal } from "./link.js";

const [address = "127.0.0.1:50051", runnerId = "typescript"] = process.argv.slice(2);
const FINAL = [Code.Aborted, Code.InvalidArgument, Code.PermissionDenied];
const WELCOME_MS = 15_000;
const incarnation = randomUUID();
const attempts = new Map<string, Attempt>();
const data = link(address);
const ended = new Pulse();
let isStopping = false;
let hurry: () => void = () => {};

const key = ({ job, attempt }: { job: string; attempt: number }) => `${job} ${attempt}`;
const refs = () => [...attempts.values()].map(({ ref }) => ref);

type Request = MessageInitShape<typeof ConnectRequestSchema>;

/** What is to be said on one control stream. */
class Outbox {
  private readonly requests: Request[] = [];
  private readonly pulse = new Pulse();
  private closed = false;

  say(message: Request["message"]): void {
    this.requests.push({ message });
    this.pulse.beat();
  }

  close(): void {
    this.closed = true;
    this.pulse.beat();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Request> {
    for (;;) {
      await this.pulse.until(() => this.closed || this.requests.length > 0);
      if (this.closed) return;
      yield this.requests.shift()!;
    }
  }
}

function take(assignment: Assignment): { accepted: boolean; reason: string } {
  const names = { job: assignment.job!.name, attempt: assignment.attempt };
  if (attempts.has(key(names))) return { accepted: true, reason: "" };
  if (isStopping) return { accepted: false, reason: "the runner is about to stop" };
  if (attempts.size > 0) return { accepted: false, reason: "its only slot is taken" };
  const attempt = new Attempt(assignment, data.transport);
  attempts.set(key(names), attempt);
  void attempt.run().finally(() => {
    attempts.delete(key(names));
    ended.beat();
  });
  return { accepted: true, reason: "" };
}

function drop(lost: AttemptRef[]): void {
  for (const ref of lost) attempts.get(key(ref))?.drop();
}

/** One control stream, on a connection of its own, from register to its end. */
async function connect(welcomed: () => void): Promise<void> {
  const { transport, cut, retire } = link(address);
  const outbox = new Outbox();
  const named = refs();
  const manifest = {
    framework: "typescript",
    version: "1",
    kinds: ["train"],
    models: [{ name: "colours", tasks: [Task.CLASSIFY], description: "The class of an image from its mean colour." }],
    tasks: [Task.CLASSIFY],
  };
  const capacity = { slots: 1, cpus: 1 };
  const about = { runnerId, incarnation, hostname: hostname(), version: "1", capacity, manifest };
  outbox.say({ case: "register", value: { ...about, attempts: named } });
  let lease = setTimeout(cut, WELCOME_MS);
  let beats: NodeJS.Timeout | undefined;
  let leaseMs = WELCOME_MS;
  hurry = () => outbox.say({ case: "draining", value: {} });
  try {
    for await (const { message } of createClient(RunnerService, transport).connect(outbox)) {
      clearTimeout(lease);
      lease = setTimeout(cut, leaseMs);
      switch (message.case) {
        case "registered": {
          welcomed();
          const { keep, heartbeatInterval, leaseDuration } = message.value;
          const kept = new Set(keep.map(key));
          for (const ref of named) if (!kept.has(key(ref))) attempts.get(key(ref))?.drop();
          leaseMs = durationMs(leaseDuration!);
          const beat = () => outbox.say({ case: "heartbeat", value: { attempts: refs() } });
          beat();
          beats = setInterval(beat, durationMs(heartbeatInterval!));
          if (isStopping) hurry();
          break;
        }
        case "heartbeatStored":
          drop(message.value.kill);
          break;
        case "assignment": {
          const { job, attempt } = message.value;
          outbox.say({ case: "assignmentReply", value: { job: job!.name, attempt, ...take(message.value) } });
          break;
        }
        case "cancelAttempt": {
          const found = attempts.get(key(message.value));
          const { cause } = message.value;
          const outcome = cause === AttemptCause.CANCELLED ? AttemptState.CANCELLED : AttemptState.RELEASED;
          if (found) found.stop ??= { outcome, cause, message: "The scheduler asked it to stop." };
          break;
        }
        case "reconnect":
          await sleep(durationMs(message.value.delay!));
          return;
      }
    }
  } finally {
    clearTimeout(lease);
    clearInterval(beats);
    outbox.close();
    retire();
  }
}

async function drain(): Promise<void> {
  if (isStopping) process.exit(1);
  isStopping = true;
  hurry();
  const [outcome, cause] = [AttemptState.RELEASED, AttemptCause.DRAINED];
  for (const attempt of attempts.values()) attempt.stop ??= { outcome, cause, message: "The runner is being stopped." };
  await Promise.race([ended.until(() => attempts.size === 0), sleep(10_000)]);
  process.exit(0);
}

process.on("SIGTERM", () => void drain());
process.on("SIGINT", () => void drain());

const backoff = new Backoff();
while (!isStopping) {
  try {
    await connect(() => backoff.reset());
  } catch (error) {
    const said = refusal(error);
    console.error(`${address}: ${said.message}`);
    if (FINAL.includes(said.code) && said.reason !== undefined) process.exit(1);
  }
  await backoff.wait();
}
await new Promise(() => {}); // drain ends the process
