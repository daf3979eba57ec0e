// Preloaded into Azurite: a request with an Entra token is first put to the local Azure ML, which knows everybody's roles.
// Requests with the account's key or a SAS carry their own right and go straight on, as in Azure. Azurite itself takes
// any token (`--oauth basic`): it has no roles.
"use strict";
const fs = require("fs");
const https = require("https");

const port = process.env.EMULATOR_SERVER_PORT;
const agent = new https.Agent({ keepAlive: true, ca: fs.readFileSync(process.env.EMULATOR_CA), servername: "localhost" });
const emit = https.Server.prototype.emit;

https.Server.prototype.emit = function (event, request, response) {
  if (event !== "request" || !/^Bearer /i.test(request.headers.authorization || "")) return emit.apply(this, arguments);
  const { host, authorization } = request.headers;
  const headers = { host, authorization, "content-length": 0 };
  const asked = https.request({ host: "127.0.0.1", port, method: request.method, path: request.url, headers, agent });
  asked.on("response", (answer) => {
    if (answer.statusCode === 204) {
      answer.resume();
      emit.call(this, "request", request, response);
      return;
    }
    request.resume(); // what it would have written is not wanted
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  asked.on("error", (error) => {
    request.resume();
    response.writeHead(500);
    response.end(String(error));
  });
  asked.end();
  return true;
};
