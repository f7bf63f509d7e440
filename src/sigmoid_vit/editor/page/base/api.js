// Every request to the server. The token travels in a header, never in an address.

import { t } from "./dom.js";
import { startAnew } from "./leaving.js";
import { storage } from "./storage.js";

const tabs = new BroadcastChannel(`sigmoid_vit.token ${location.pathname}`);
let token = null; // the page keeps to one: that of another start of the server may name other images

/** Move the token from the address bar to this tab's storage, or find it there. */
export function takeToken() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (found) storage("session").set("token", found);
  token = found ?? storage("session").get("token");
  history.replaceState(null, "", location.pathname + location.search);
}

/** Hand a token that works to the other tabs; those with another one start anew. */
export const shareToken = () => tabs.postMessage(token);
tabs.onmessage = ({ data }) => {
  if (data === token) return;
  storage("session").set("token", data);
  startAnew();
};

/** What is thrown: status is 0 without a response; facts are what the response holds, {error, theirs?}. */
export const failure = (status, facts) => Object.assign(new Error(facts?.error), facts, { status });

/** The content of the server's response as "json", "arrayBuffer" or "blob". */
async function request(path, params, as, seconds, options = {}, type = {}, signals = []) {
  const address = new URL(`api/${path}?${new URLSearchParams(params)}`, document.baseURI);
  const headers = { Authorization: `Bearer ${token}`, ...type };
  const signal = AbortSignal.any([AbortSignal.timeout(1000 * seconds), ...signals]);
  let response;
  try {
    response = await fetch(address, { ...options, headers, signal, cache: "no-store", credentials: "omit" });
    if (response.ok) return await response[as]();
  } catch {
    throw failure(0);
  }
  const facts = await response.json().catch(() => null);
  throw failure(facts?.error ? response.status : 0, facts); // 0: it came from another program
}

/** @param signals that end the request; it fails with status 0 then */
export const get = (path, params, as = "json", signals = []) =>
  request(path, params, as, as === "blob" ? 600 : 60, {}, {}, signals);

/** Post a grid's bytes, or an object as JSON; `keepalive`: also when the page is closed meanwhile. */
export function post(path, params, content, keepalive = false) {
  const isBinary = content instanceof Uint8Array;
  const type = { "Content-Type": isBinary ? "application/octet-stream" : "application/json" };
  const body = isBinary ? content : JSON.stringify(content);
  return request(path, params, "json", 20, { method: "POST", body, keepalive }, type);
}

/** An error in the person's words; `id` of the image it is about. */
export function errorText({ status, message }, id = "") {
  const names = { 0: "no_response", 401: "token_wrong", 409: "conflict", 424: "unreadable" };
  Object.assign(names, { 503: "store_moved", 507: "disk" });
  return status in names ? t(names[status], { id }) : message;
}
