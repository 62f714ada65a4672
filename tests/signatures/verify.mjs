// Verifies webhooks with the official library for Node, over the bytes that were received.
//
//   node verify.mjs cases.json    [{secret, headers, body (base64), later_s}], prints [true|false]
//
// `later_s` is how much later than now a receiver looks at it.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.OKRA_TEST_NODE_FOLDER, "package.json"));
const { Webhook } = require("standardwebhooks");
const now = Date.now;

const accepts = ({ secret, headers, body, later_s }) => {
  const RealDate = globalThis.Date;
  globalThis.Date = class extends RealDate {
    static now() {
      return now() + later_s * 1000;
    }
  };
  try {
    new Webhook(secret).verify(Buffer.from(body, "base64"), headers);
    return true;
  } catch {
    return false;
  } finally {
    globalThis.Date = RealDate;
  }
};

const cases = JSON.parse(readFileSync(process.argv[2], "utf8"));
console.log(JSON.stringify(cases.map(accepts)));
