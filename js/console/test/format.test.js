import assert from "node:assert/strict";
import { test } from "node:test";

import { bytes, count, duration, number, percent, seconds } from "../src/format.js";

test("format", () => {
  const cases = [
    [count(1234567), "1,234,567"],
    [number(0), "0"], [number(0.0634), "0.0634"], [number(9987), "9,990"], [number(123456), "123K"],
    [bytes(0), "0 B"], [bytes(999), "999 B"], [bytes(1024), "1 KiB"], [bytes(48 * 2 ** 20), "48 MiB"], [bytes(2 ** 50), "1,020 TiB"],
    [seconds(25e-6), "25 µs"], [seconds(0.9999e-3), "1 ms"], [seconds(0.99951), "1 s"], [seconds(0.0174), "17.4 ms"], [seconds(2.5), "2.5 s"],
    [duration(0), "0 s"], [duration(59.9), "59 s"], [duration(3600), "1 h"], [duration(90_061), "1 d 1 h"], [duration(61), "1 min 1 s"],
    [percent(0.805), "80.5 %"],
  ];
  for (const [got, want] of cases) assert.equal(got, want);
});
