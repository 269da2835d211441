/** Everything that a test waits for comes within this time, in ms, or the test fails. */
export const patience = 45_000;

/** Repeats a check until it gives something truthy. */
export async function eventually(check, what) {
  const end = Date.now() + patience;
  while (!(await check())) {
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
