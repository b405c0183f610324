import { malformed } from "./errors.js";
import { type ListPage, listRange } from "./frames.js";
import type { Outlet } from "./outlet.js";

/** The most ids of a LIST_PAGE. */
const maxPageIDs = 8192;

interface Request {
  after: bigint;
  resolve(page: ListPage): void;
  reject(error: unknown): void;
}

/** The requests for pages of the list of clients. The hub answers in order: rule C4. */
export class Requests {
  #pending: Request[] = [];
  #ended: unknown;

  constructor(readonly outlet: Outlet) {}

  /** Returns the page of the ids above after. Asks again after a reconnect. */
  page(after: bigint): Promise<ListPage> {
    return new Promise((resolve, reject) => {
      if (this.#ended) throw this.#ended;
      this.#pending.push({ after, resolve, reject });
      this.outlet.write(listRange(after, maxPageIDs));
    });
  }

  handlePage(page: ListPage): void {
    const request = this.#pending.shift();
    if (!request) throw malformed("unexpected LIST_PAGE");
    request.resolve(page);
  }

  /** A connection has begun. */
  attach(): void {
    for (const { after } of this.#pending) this.outlet.write(listRange(after, maxPageIDs));
  }

  end(error: unknown): void {
    this.#ended = error;
    for (const request of this.#pending.splice(0)) request.reject(error);
  }
}
