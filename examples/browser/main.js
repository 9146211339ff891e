// fal's unmodified JavaScript client in a browser, pointed here by its proxyUrl.
//
// make serve
// cd examples/browser && npm install --no-save @fal-ai/client esbuild
// npx esbuild main.js --bundle --outfile=bundle.js --servedir=. --serve=127.0.0.1:3000
// and open http://localhost:3000

import { fal } from "@fal-ai/client";

const server = new URLSearchParams(location.search).get("server") ?? "http://localhost:8000";
// The client must not hold a key here. Where one is due, your own backend has it, and is the proxy.
fal.config({ proxyUrl: `${server}/api/fal/proxy` });

const [form] = document.forms;
const [image] = document.images;
const status = document.querySelector("p");

form.addEventListener("submit", async (submit) => {
  submit.preventDefault();
  try {
    const input = { prompt: form.prompt.value, seed: 7 };
    const stream = await fal.stream("glimpse/miniature", { input });
    for await (const event of stream) {
      image.src = event.image.url;
      status.textContent = `${event.type}, step ${event.step} of ${event.steps}`;
    }
    await stream.done(); // iterating does not throw
  } catch (error) {
    status.textContent = error.message;
  }
});
