// The AI SDK with its unmodified fal provider, pointed at the server that GLIMPSE_URL names. Prints what a
// call gave, as JSON; pictures as base64.
//
// node ai_sdk.mjs CALL

import { createFal } from "@ai-sdk/fal";
import { generateImage } from "ai";

const fal = createFal({ baseURL: process.env.GLIMPSE_URL, apiKey: process.env.FAL_KEY });
const model = fal.image("glimpse/miniature");
const prompt = "a red lighthouse by the sea at sunset";
const picture = () => Buffer.from(process.env.PICTURE, "base64");
const mask = () => Buffer.from(process.env.MASK, "base64");

globalThis.AI_SDK_LOG_WARNINGS = false; // they would be on stdout as well; they are in what is told

const told = ({ images, warnings, providerMetadata }) => ({
  images: images.map(({ base64, mediaType }) => ({ base64, mediaType })),
  warnings,
  metadata: providerMetadata.fal,
});
const failure = ({ name, message, statusCode }) => ({ failure: { name, message, statusCode } });
const ask = (options) => generateImage({ model, maxRetries: 0, ...options }).then(told, failure);

const calls = {
  generate: () =>
    ask({
      prompt,
      size: "160x96",
      seed: 7,
      n: 2,
      providerOptions: {
        fal: {
          numInferenceSteps: 4,
          guidanceScale: 3,
          negative_prompt: "blurry",
          outputFormat: "png",
          enableSafetyChecker: false,
          syncMode: true,
        },
      },
    }),
  by_aspect: () => ask({ prompt, aspectRatio: "16:9", seed: 7 }),
  defaults: () => ask({ prompt }),
  edit: () =>
    ask({
      prompt: { text: prompt, images: [picture()] },
      seed: 7,
      providerOptions: { fal: { strength: 0.3, outputFormat: "png" } },
    }),
  edit_with_mask: () =>
    ask({
      prompt: { text: prompt, images: [picture()], mask: mask() },
      seed: 7,
      providerOptions: { fal: { strength: 1, outputFormat: "png" } },
    }),
  refused: () => ask({ prompt, providerOptions: { fal: { numInferenceSteps: 4, sead: 1 } } }),
  unknown_app: () => ask({ model: fal.image("glimpse/other"), prompt }),
};

process.stdout.write(`${JSON.stringify(await calls[process.argv[2]]())}\n`);
