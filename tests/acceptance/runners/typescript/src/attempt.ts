// One attempt: inputs, training, results, its acknowledged end.

import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { createClient, type Transport } from "@connectrpc/connect";

import { meanColour, Regression, type Sample } from "./colours.js";
import { ProgressService, ProgressUpdateSchema, type ProgressUpdate } from "./gen/visionmesh/v1/progress_pb.js";
import { ResultItemSchema, ResultService, type ResultItem } from "./gen/visionmesh/v1/result_pb.js";
import { RunnerService, type Assignment } from "./gen/visionmesh/v1/runner_pb.js";
import { AttemptCause, AttemptState, Stage } from "./gen/visionmesh/v1/vision_pb.js";
import { isTooLarge, refusal } from "./link.js";
import { Lost, NumberedStream, type Batch } from "./numbered.js";

const FETCH_TRIES = 3;
const EPOCH_PAUSE_MS = 5;

export interface Ending {
  outcome: AttemptState;
  cause: AttemptCause;
  message: string;
}

export class Attempt {
  /** Set from outside: end as soon as may be, in this way. */
  stop: Ending | undefined;
  private readonly progress: NumberedStream<ProgressUpdate>;
  private readonly results: NumberedStream<ResultItem>;
  private readonly dropped = new AbortController();

  constructor(
    private readonly assignment: Assignment,
    private readonly transport: Transport,
  ) {
    const names = this.ref;
    this.progress = new NumberedStream(
      (requests, signal) =>
        createClient(ProgressService, transport).reportProgress(
          mapped(requests, (b) => (b === "opening" ? names : { firstNumber: b.firstNumber, updates: b.messages })),
          { signal },
        ),
      (update) => (update.update.case === "attemptEnded" ? withoutWords(update) : said("A larger update is left out.")),
      () => this.results.reopen(),
    );
    this.results = new NumberedStream(
      (requests, signal) =>
        createClient(ResultService, transport).publishResults(
          mapped(requests, (b) => (b === "opening" ? names : { firstNumber: b.firstNumber, items: b.messages })),
          { signal },
        ),
      () => create(ResultItemSchema), // the scheduler notes that a result was rejected
    );
  }

  get ref() {
    return { job: this.assignment.job!.name, attempt: this.assignment.attempt };
  }

  /** End it at once and tell nobody. */
  drop(): void {
    this.dropped.abort();
  }

  /** Run it until its end is acknowledged, or it is lost. */
  async run(): Promise<void> {
    const dropped = new Promise<never>((_, lose) =>
      this.dropped.signal.addEventListener("abort", () => lose(new Lost("the scheduler has given it up"))),
    );
    const streams = [this.progress.run(), this.results.run()];
    try {
      await Promise.race([this.work(), ...streams, dropped]);
    } catch (error) {
      console.error(`${this.ref.job} is dropped: ${String(error)}`);
    } finally {
      this.dropped.abort();
      this.progress.stop();
      this.results.stop();
      await Promise.allSettled(streams);
    }
  }

  private async work(): Promise<void> {
    const { outcome, cause, message } = await this.train().catch((error: unknown) => {
      if (this.dropped.signal.aborted) throw error;
      return { outcome: AttemptState.FAILED, cause: AttemptCause.USER_ERROR, message: String(error) };
    });
    await this.results.delivered();
    const error = message ? { code: 9, message } : undefined;
    const resultsNumber = BigInt(this.results.last);
    await this.say({ case: "attemptEnded", value: { outcome, cause, error, resultsNumber } });
    await this.progress.delivered();
  }

  private async train(): Promise<Ending> {
    const { spec } = this.assignment.job!;
    if (spec.case !== "train") throw new Error(`this runner trains; it does not ${spec.case}`);
    await this.say({ case: "stageChanged", value: { stage: Stage.FETCHING_INPUTS } });
    const samples = await this.samples();
    await this.say({ case: "attemptStarted", value: { pid: process.pid, device: "cpu" } });
    await this.say({ case: "stageChanged", value: { stage: Stage.TRAINING, detail: `${samples.length} images` } });
    const totalEpochs = spec.value.epochs ?? 100;
    const classes = 1 + Math.max(...samples.map(({ label }) => label));
    const model = new Regression(samples, classes, spec.value.learningRate ?? 1);
    let [bestEpoch, bestMetrics, finalMetrics] = [0, { train_loss: Infinity }, { train_loss: Infinity }];
    for (let epoch = 1; epoch <= totalEpochs; epoch++) {
      if (this.stop !== undefined) return this.stop;
      this.dropped.signal.throwIfAborted();
      finalMetrics = model.epoch();
      const isBest = finalMetrics.train_loss < bestMetrics.train_loss;
      if (isBest) [bestEpoch, bestMetrics] = [epoch, finalMetrics];
      const metrics = { ...finalMetrics };
      const value = { epoch, totalEpochs, metrics, learningRate: model.learningRate, isBest };
      await this.say({ case: "epochCompleted", value });
      await sleep(EPOCH_PAUSE_MS); // heartbeats share this thread
    }
    const training = { bestEpoch, bestMetrics, finalMetrics, epochsCompleted: totalEpochs };
    await this.results.put(create(ResultItemSchema, { item: { case: "training", value: training } }));
    return { outcome: AttemptState.SUCCEEDED, cause: AttemptCause.UNSPECIFIED, message: "" };
  }

  private async samples(): Promise<Sample[]> {
    const files = await this.fetch(this.assignment.dataset!.uri);
    const images = [...files].filter(([path]) => /^images\/train\/.*\.png$/.test(path));
    if (images.length === 0) throw new Error("the dataset has no images/train/*.png");
    return images.map(([path, png]) => {
      const label = files.get(path.replace(/^images(.*)png$/, "labels$1txt"))?.toString() ?? "";
      if (!/^\d+ /.test(label)) throw new Error(`${path} has no label`);
      return { features: meanColour(png), label: parseInt(label, 10) };
    });
  }

  /** The files below a folder, by path, each with its promised digest. */
  private async fetch(uri: string): Promise<Map<string, Buffer>> {
    for (let left = FETCH_TRIES; ; left--) {
      try {
        return await this.fetchOnce(uri);
      } catch (error) {
        if (left === 1 || this.dropped.signal.aborted || isTooLarge(refusal(error))) throw error;
        await sleep(100);
      }
    }
  }

  private async fetchOnce(uri: string): Promise<Map<string, Buffer>> {
    const found: { path: string; sha256: string; chunks: Uint8Array[] }[] = [];
    const request = { ...this.ref, uris: [uri] };
    const { signal } = this.dropped;
    for await (const { message } of createClient(RunnerService, this.transport).fetchObject(request, { signal })) {
      if (message.case === "header") found.push({ path: message.value.path, sha256: message.value.sha256, chunks: [] });
      if (message.case === "chunk") found.at(-1)!.chunks.push(message.value);
    }
    return new Map(
      found.map(({ path, sha256, chunks }) => {
        const data = Buffer.concat(chunks);
        if (createHash("sha256").update(data).digest("hex") !== sha256) throw new Error(`${path} arrived damaged`);
        return [path, data];
      }),
    );
  }

  private async say(update: MessageInitShape<typeof ProgressUpdateSchema>["update"]): Promise<void> {
    await this.progress.put(create(ProgressUpdateSchema, { eventTime: timestampNow(), update }));
  }
}

async function* mapped<M, R>(batches: AsyncIterable<Batch<M> | "opening">, request: (batch: Batch<M> | "opening") => R) {
  for await (const batch of batches) yield request(batch);
}

function said(message: string): ProgressUpdate {
  return create(ProgressUpdateSchema, { eventTime: timestampNow(), update: { case: "logLine", value: { message } } });
}

function withoutWords(update: ProgressUpdate): ProgressUpdate {
  if (update.update.case === "attemptEnded") update.update.value.error = undefined;
  return update;
}
