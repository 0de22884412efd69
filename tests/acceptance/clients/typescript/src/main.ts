// Trains on a dataset, watches the job to its end, and reads two refusals.
//
//     node dist/main.js 127.0.0.1:50051 datasets/shapes
//
// Prints one JSON object a line. The small images and the CPU suit a set of drawn shapes; choose your own.

import { randomUUID } from "node:crypto";

import { toJson } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { refusal } from "./errors.js";
import { JobService } from "./gen/visionmesh/v1/job_pb.js";
import { EpochCompletedSchema, ProgressService } from "./gen/visionmesh/v1/progress_pb.js";
import { JobState } from "./gen/visionmesh/v1/vision_pb.js";
import { watch } from "./watch.js";

const [address = "127.0.0.1:50051", dataset = "datasets/shapes"] = process.argv.slice(2);

const transport = createGrpcTransport({ baseUrl: `http://${address}` });
const jobs = createClient(JobService, transport);
const progress = createClient(ProgressService, transport);
const soon = { timeoutMs: 10_000 };

function print(line: unknown): void {
  console.log(JSON.stringify(line));
}

function train(model: string) {
  const value = { model, dataset, epochs: 3, imageSize: 64, batchSize: 8, device: "cpu" };
  // With a request id the call is safe to repeat: the same id gives the same job.
  return jobs.createJob({ requestId: randomUUID(), job: { spec: { case: "train", value } } }, soon);
}

const { name } = await train("yolov8n");
print({ created: name });

const sequences: number[] = [];
for await (const { sequence, update } of watch(progress, name)) {
  sequences.push(Number(sequence));
  if (update?.update.case === "epochCompleted") {
    print(toJson(EpochCompletedSchema, update.update.value)); // metrics may be NaN, which plain JSON cannot say
  }
}

const ended = await jobs.getJob({ name }, soon);
print({ ended: JobState[ended.state], sequence: Number(ended.sequence), sequences });

for (const call of [() => train("yolov8nn"), () => jobs.getJob({ name: "jobs/no-such-job" }, soon)]) {
  await call().catch((error: unknown) => print({ refused: refusal(error) }));
}
