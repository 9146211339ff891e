// OpenAI's unmodified JavaScript client, pointed at the server that GLIMPSE_URL names. Prints what a call
// gave, as JSON.
//
// node openai.mjs CALL

import OpenAI, { toFile } from "openai";

const client = new OpenAI({
  baseURL: `${process.env.GLIMPSE_URL}/v1`,
  apiKey: process.env.OPENAI_API_KEY ?? "any",
  maxRetries: 0,
});
const prompt = "a red lighthouse by the sea at sunset";
const file = (name) =>
  toFile(Buffer.from(process.env[name], "base64"), `${name}.png`, { type: "image/png" });

const failure = ({ name, constructor, status, code, param, message }) => ({
  failure: { name: constructor.name ?? name, status, code, param, message },
});
async function events(stream) {
  const all = [];
  for await (const event of await stream) all.push(event);
  return all;
}

const calls = {
  generate: () =>
    client.images.generate({
      model: "gpt-image-1.5",
      prompt,
      n: 2,
      size: "1536x1024",
      quality: "low",
      output_format: "jpeg",
      output_compression: 80,
    }),
  stream: () => events(client.images.generate({ prompt, stream: true, partial_images: 2 })),
  edit: async () => client.images.edit({ image: await file("PICTURE"), prompt }),
  edit_of_a_list: async () => client.images.edit({ image: [await file("PICTURE")], prompt }),
  edit_with_mask: async () =>
    events(
      client.images.edit({
        image: await file("PICTURE"),
        mask: await file("MASK"),
        prompt,
        stream: true,
        partial_images: 1,
      }),
    ),
  models: async () => {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return ids;
  },
  refused: () => client.images.generate({ prompt, n: 9 }).catch(failure),
  refused_stream: () => events(client.images.generate({ prompt, n: 9, stream: true })).catch(failure),
  unknown_model: () => client.images.generate({ prompt, model: "gpt-4o" }).catch(failure),
};

process.stdout.write(`${JSON.stringify(await calls[process.argv[2]]())}\n`);
