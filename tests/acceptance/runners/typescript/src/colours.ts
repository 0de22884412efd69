// What is learnt: the class of an image from its mean colour, by softmax regression.

import { inflateSync } from "node:zlib";

export interface Sample {
  features: number[];
  label: number;
}

/** Mean red, green and blue of a PNG with 8 bits a channel, each in [0, 1]. */
export function meanColour(png: Buffer): number[] {
  const [width, height] = [png.readUInt32BE(16), png.readUInt32BE(20)];
  const channels = { 0: 1, 2: 3, 4: 2, 6: 4 }[png[25]!];
  if (channels === undefined || png[24] !== 8 || png[28] !== 0) throw new Error("only plain PNG with 8 bits is read");
  const parts: Buffer[] = [];
  for (let at = 8; at < png.length; at += 12 + png.readUInt32BE(at)) {
    if (png.toString("latin1", at + 4, at + 8) === "IDAT") parts.push(png.subarray(at + 8, at + 8 + png.readUInt32BE(at)));
  }
  const rows = unfilter(inflateSync(Buffer.concat(parts)), width * channels, height, channels);
  const sums = [0, 0, 0];
  for (let at = 0; at < rows.length; at += channels) {
    for (const c of [0, 1, 2]) sums[c]! += rows[at + (channels < 3 ? 0 : c)]!;
  }
  return sums.map((sum) => sum / (255 * width * height));
}

/** PNG stores differences to the left, upper and upper left neighbour. */
function unfilter(data: Buffer, stride: number, height: number, channels: number): Buffer {
  const out = Buffer.alloc(stride * height);
  for (let y = 0; y < height; y++) {
    const filter = data[y * (stride + 1)];
    for (let x = 0; x < stride; x++) {
      const at = y * stride + x;
      const left = x < channels ? 0 : out[at - channels]!;
      const up = y === 0 ? 0 : out[at - stride]!;
      const corner = x < channels || y === 0 ? 0 : out[at - stride - channels]!;
      const guess = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter!]!;
      out[at] = data[y * (stride + 1) + 1 + x]! + guess;
    }
  }
  return out;
}

function paeth(left: number, up: number, corner: number): number {
  const [l, u, c] = [left, up, corner].map((v) => Math.abs(left + up - corner - v)) as [number, number, number];
  return l <= u && l <= c ? left : u <= c ? up : corner;
}

/** A linear model that is trained by gradient descent over all samples at once. */
export class Regression {
  private readonly weights: number[][];

  constructor(
    private readonly samples: Sample[],
    classes: number,
    readonly learningRate: number,
  ) {
    this.weights = Array.from({ length: classes }, () => [0, 0, 0, 0]);
  }

  /** One epoch; loss and accuracy before its step. */
  epoch(): { train_loss: number; accuracy_top1: number } {
    let [loss, right] = [0, 0];
    const step = this.weights.map((row) => row.map(() => 0));
    for (const { features, label } of this.samples) {
      const inputs = [1, ...features];
      const found = this.probabilities(inputs);
      loss -= Math.log(found[label]!);
      if (found[label] === Math.max(...found)) right++;
      found.forEach((p, c) => inputs.forEach((x, i) => (step[c]![i]! += (p - (c === label ? 1 : 0)) * x)));
    }
    const count = this.samples.length;
    step.forEach((row, c) => row.forEach((g, i) => (this.weights[c]![i]! -= (this.learningRate * g) / count)));
    return { train_loss: loss / count, accuracy_top1: right / count };
  }

  private probabilities(inputs: number[]): number[] {
    const scores = this.weights.map((row) => Math.exp(row.reduce((sum, w, i) => sum + w * inputs[i]!, 0)));
    const total = scores.reduce((a, b) => a + b);
    return scores.map((score) => score / total);
  }
}
