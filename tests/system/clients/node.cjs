// A device on MQTT.js: connects and subscribes as its first argument says, tells each event as a line.
// NODE_PATH names the folder MQTT.js is installed in.
const { readFileSync } = require("node:fs");
const mqtt = require("mqtt");

const { url, options, topic, caFile } = JSON.parse(process.argv[2]);
const tell = (event) => console.log(JSON.stringify(event));
if (caFile) options.ca = readFileSync(caFile);
const client = mqtt.connect(url, options);

client.on("connect", () =>
  client.subscribe(topic, (error, granted) =>
    tell(error ? { event: "error", text: String(error) } : { event: "subscribed", qos: granted[0].qos }),
  ),
);
client.on("message", (topic, payload) => tell({ event: "message", topic, payload: payload.toString() }));
client.on("error", (error) => tell({ event: "error", text: String(error) }));
client.on("close", () => tell({ event: "closed" }));
process.stdin.on("end", () => client.end(false, {}, () => process.exit(0)));
process.stdin.resume();
