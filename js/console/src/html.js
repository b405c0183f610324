import htm from "htm";
import { h } from "preact";

// A template of elements. It builds them without eval, and text never becomes markup.
export const html = htm.bind(h);
