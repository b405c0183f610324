// Requests to the admin address. The token stays in the storage of this tab.

const tokenKey = "message-hub-token";
const timeout = 10_000; // of a request, in ms; a test message adds its own

export const readToken = () => sessionStorage.getItem(tokenKey);
export const storeToken = (token) => sessionStorage.setItem(tokenKey, token);
export const forgetToken = () => sessionStorage.removeItem(tokenKey);

// ApiError is an error response. Its status is 0 if there was no response.
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// Sends a request and returns the JSON of the response, or null if that is empty.
export async function request(method, path, { body, wait = 0 } = {}) {
  const headers = {};
  const token = readToken();
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  let response, text;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(timeout + wait) });
    text = await response.text();
  } catch (error) {
    throw new ApiError(0, error.message);
  }
  let content = null;
  try {
    if (text) content = JSON.parse(text);
  } catch {
    throw new ApiError(response.status, "The response is not of the hub.");
  }
  if (!response.ok) throw new ApiError(response.status, content?.error ?? response.statusText);
  return content;
}

export const getSummary = () => request("GET", "/api/summary");
export const getClient = (id) => request("GET", `/api/clients/${id}`);
export const listClients = (query) => request("GET", `/api/clients?${new URLSearchParams(query)}`);
export const disconnect = (id, reconnect) => request("DELETE", `/api/clients/${id}?reconnect=${reconnect}`);
export const sendMessage = (message) => request("POST", "/api/messages", { body: message, wait: message.timeout_ms });
