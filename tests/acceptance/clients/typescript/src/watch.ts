// A watch that survives lost connections.

import { setTimeout } from "node:timers/promises";

import type { Client } from "@connectrpc/connect";

import { refusal } from "./errors.js";
import type { JobEvent, ProgressService } from "./gen/visionmesh/v1/progress_pb.js";

const MAX_FAILURES = 6;

/** Each event of a job once, in order, until the job has ended. */
export async function* watch(progress: Client<typeof ProgressService>, job: string): AsyncGenerator<JobEvent> {
  let afterSequence = 0n;
  for (let failures = 0; ; ) {
    try {
      for await (const { message } of progress.watchProgress({ job, afterSequence })) {
        failures = 0;
        if (message.case !== "event") continue; // a bookmark: nothing new
        afterSequence = message.value.sequence;
        yield message.value;
      }
      return; // the stream ends by itself when the job has
    } catch (error) {
      const said = refusal(error);
      const resumable = said.reason === undefined || said.code === "Unavailable" || said.reason === "SLOW_CONSUMER";
      if (!resumable || ++failures > MAX_FAILURES) throw error;
      console.error(`${said.message}; going on after ${afterSequence}`);
      await setTimeout(100 * 2 ** failures);
    }
  }
}
