/** Whether a server answers, and which: two small requests that cost nothing. */

import { get } from "node:http";

const PATIENCE_MS = 1500;

/** The id of the model that a ready server runs; nothing if it is not ready, or too slow to say. */
export async function probe(url: string, apiKey: string): Promise<string | undefined> {
  const [ready, models] = await Promise.all([ask(`${url}/ready`, apiKey), ask(`${url}/v1/models`, apiKey)]);
  // The C server has no /ready; whoever has it must say yes.
  if (models?.status !== 200 || (ready?.status !== 200 && ready?.status !== 404)) return undefined;
  try {
    const id = (JSON.parse(models.body) as { data: { id: unknown }[] }).data[0]?.id;
    return typeof id === "string" ? id : undefined;
  } catch {
    return undefined;
  }
}

// Not fetch: Pi may send that through a proxy, which does not know this machine's own address.
function ask(url: string, apiKey: string): Promise<{ status: number; body: string } | undefined> {
  return new Promise((resolve) => {
    const nothing = () => resolve(undefined);
    const headers = { authorization: `Bearer ${apiKey}` };
    const request = get(url, { headers, agent: false, signal: AbortSignal.timeout(PATIENCE_MS) }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (text: string) => {
        body += text;
        if (body.length > 1 << 20) request.destroy();
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
      response.on("error", nothing);
      response.on("close", nothing);
    });
    request.on("error", nothing);
  });
}
