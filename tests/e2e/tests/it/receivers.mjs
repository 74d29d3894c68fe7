// Verifies captured requests with the libraries that receivers use, and refuses each of them once it was changed.
// Arguments: the directory that has the packages, and a file as `receivers.py` takes it.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [packages, file] = process.argv.slice(2);
const require = createRequire(pathToFileURL(join(packages, "package.json")));
const { Webhook, WebhookVerificationError } = require("standardwebhooks");
const { verify } = await import(
  pathToFileURL(join(packages, "node_modules/@octokit/webhooks-methods/dist-node/index.js"))
);

const standard = async (request, body) => {
  try {
    new Webhook(request.secret).verify(body, request.headers, { jsonParse: false });
    return true;
  } catch (error) {
    if (error instanceof WebhookVerificationError) return false;
    throw error;
  }
};
const github = (request, body) => verify(request.secret, body, request.headers["x-hub-signature-256"]);

let verified = 0;
for (const request of JSON.parse(readFileSync(file, "utf8"))) {
  const check = { standard, github }[request.profile];
  if (!check) continue;
  const body = Buffer.from(request.body, "base64").toString("utf8");
  if (!(await check(request, body))) throw new Error(`${request.profile}: refused`);
  if (await check(request, body + " ")) throw new Error(`${request.profile}: a changed body was not refused`);
  verified += 1;
}
console.log(`verified ${verified}`);
