// OpenAI's unmodified client in a page. esbuild makes it a script for one.

import OpenAI from "openai";

const prompt = "a red lighthouse by the sea at sunset";
let client;

globalThis.pointTo = (server) => {
  // A page must not hold a key that is worth something; the client wants to hear that we know.
  const options = { apiKey: "any", dangerouslyAllowBrowser: true, maxRetries: 0 };
  client = new OpenAI({ baseURL: `${server}/v1`, organization: "ours", ...options });
};

async function size({ b64_json }) {
  const image = new Image();
  image.src = `data:image/png;base64,${b64_json}`;
  await image.decode();
  return [image.naturalWidth, image.naturalHeight];
}

async function drawn() {
  const canvas = Object.assign(document.createElement("canvas"), { width: 192, height: 128 });
  const context = canvas.getContext("2d");
  context.fillStyle = "orange";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  return new File([blob], "drawn.png", { type: "image/png" });
}

globalThis.generate = async () => {
  const { data, response } = await client.images.generate({ prompt }).withResponse();
  return [await size(data.data[0]), response.headers.get("x-fal-request-id")];
};

globalThis.stream = async () => {
  const events = await client.images.generate({ prompt, stream: true, partial_images: 2 });
  const told = [];
  for await (const event of events) told.push([event.type, await size(event)]);
  return told;
};

globalThis.edit = async () => {
  const { data } = await client.images.edit({ image: await drawn(), prompt });
  return size(data[0]);
};

globalThis.refused = () =>
  client.images.generate({ prompt, n: 9 }).then(
    () => null,
    ({ status, param }) => [status, param],
  );
