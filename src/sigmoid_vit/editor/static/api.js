// Everything the page asks of the server. The token travels in a header, never in an address.

import { storage } from "./storage.js";
import { t } from "./texts.js";

const BASE = new URL("api/", document.baseURI);
/**
 * Move the token from the address bar to this tab's storage, and hand it to the other tabs, whose own may
 * be of an earlier start of the server. Returns whether the address held one.
 */
export function takeToken() {
  const tabs = new BroadcastChannel("sigmoid_vit.token");
  tabs.onmessage = ({ data }) => storage("session").set("token", data);
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!found) return false;
  storage("session").set("token", found);
  tabs.postMessage(found);
  history.replaceState(null, "", location.pathname + location.search);
  return true;
}

export class ApiError extends Error {
  constructor(status, message, facts = {}) {
    super(message);
    this.status = status; // 0: no answer
    if (status === 409 && "theirs" in facts) this.theirs = facts.theirs;
  }
}

async function request(path, params, options = {}, seconds = 60) {
  const address = new URL(path, BASE);
  for (const [name, value] of Object.entries(params)) address.searchParams.set(name, value);
  const token = storage("session").get("token");
  const headers = { ...options.headers, Authorization: `Bearer ${token}` };
  let answer;
  try {
    const signal = AbortSignal.timeout(1000 * seconds);
    answer = await fetch(address, { ...options, headers, signal, cache: "no-store", credentials: "omit" });
    if (answer.ok) return { answer, body: await answer.arrayBuffer() };
  } catch {
    throw new ApiError(0, "");
  }
  const facts = await answer.json().catch(() => ({}));
  if (!facts.error) throw new ApiError(0, ""); // a proxy or another program answers here
  throw new ApiError(answer.status, String(facts.error), facts);
}

const parse = ({ body }) => JSON.parse(new TextDecoder().decode(body));

export const getJson = async (path, params = {}) => parse(await request(path, params));
export const getBytes = async (path, params = {}) => (await request(path, params)).body;

export async function getBlob(path, params = {}) {
  const { answer, body } = await request(path, params, {}, 600);
  return new Blob([body], { type: answer.headers.get("Content-Type") ?? "" });
}

/** Post a grid's bytes, or an object as JSON. */
export async function post(path, params, content) {
  const binary = content instanceof Uint8Array;
  const headers = { "Content-Type": binary ? "application/octet-stream" : "application/json" };
  const body = binary ? content : JSON.stringify(content);
  return parse(await request(path, params, { method: "POST", headers, body }, 20));
}

/** An error in the person's words. */
export function errorText({ status, message }) {
  return status === 401 ? t("token_wrong") : status === 0 ? t("no_answer") : message;
}
