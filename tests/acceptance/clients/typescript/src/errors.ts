// What the mesh says when it refuses: a gRPC code, a reason to branch on, and the fields that are wrong.

import { Code, ConnectError } from "@connectrpc/connect";

import { BadRequestSchema, ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";

export interface Refusal {
  code: keyof typeof Code;
  /** ErrorInfo.reason; undefined if the error is not the mesh's own, such as a connection that was cut. */
  reason: string | undefined;
  message: string;
  metadata: Record<string, string>;
  fields: { field: string; description: string }[];
}

export function refusal(error: unknown): Refusal {
  const said = ConnectError.from(error);
  const [info] = said.findDetails(ErrorInfoSchema);
  const [bad] = said.findDetails(BadRequestSchema);
  return {
    code: Code[said.code] as keyof typeof Code,
    reason: info?.reason,
    message: said.rawMessage,
    metadata: info?.metadata ?? {},
    fields: (bad?.fieldViolations ?? []).map(({ field, description }) => ({ field, description })),
  };
}
