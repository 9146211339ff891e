// OpenAI's unmodified JavaScript client: one address. Writes windmill.png, sharper with every event.
//
// make serve
// npm install openai
// node examples/openai_javascript.mjs

import { createReadStream } from "node:fs";
import { writeFile } from "node:fs/promises";
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: `${process.env.GLIMPSE_URL ?? "http://localhost:8000"}/v1`,
  apiKey: process.env.OPENAI_API_KEY ?? "any",
});
const save = (name, base64) => writeFile(name, Buffer.from(base64, "base64"));

const stream = await client.images.generate({
  prompt: "a windmill",
  stream: true,
  partial_images: 3,
});
for await (const event of stream) {
  await save("windmill.png", event.b64_json);
  console.log(event.type);
}

const edited = await client.images.edit({
  image: createReadStream("windmill.png"),
  prompt: "a windmill at night",
});
await save("windmill-night.png", edited.data[0].b64_json);
