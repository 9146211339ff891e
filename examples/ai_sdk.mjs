// The AI SDK with its unmodified fal provider: one address. Writes windmill.jpg and windmill-night.jpg.
//
// make serve
// npm install ai @ai-sdk/fal zod
// node examples/ai_sdk.mjs

import { readFile, writeFile } from "node:fs/promises";
import { createFal } from "@ai-sdk/fal";
import { generateImage } from "ai";

const fal = createFal({
  baseURL: process.env.GLIMPSE_URL ?? "http://localhost:8000",
  apiKey: process.env.FAL_KEY ?? "any",
});
const model = fal.image("glimpse/miniature");

const { image } = await generateImage({
  model,
  prompt: "a windmill on green hills",
  aspectRatio: "16:9",
  seed: 7,
  // Fields of docs/api.md; those that fal has go by the SDK's own names for them.
  providerOptions: { fal: { numInferenceSteps: 30, negative_prompt: "blurry" } },
});
await writeFile("windmill.jpg", image.uint8Array);
console.log("windmill.jpg", image.mediaType);

const edited = await generateImage({
  model,
  prompt: { text: "a windmill at night", images: [await readFile("windmill.jpg")] },
  aspectRatio: "16:9",
  providerOptions: { fal: { strength: 0.7 } },
});
await writeFile("windmill-night.jpg", edited.image.uint8Array);
console.log("windmill-night.jpg", edited.image.mediaType);
