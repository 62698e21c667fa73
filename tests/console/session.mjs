// What a session may do, and how it ends.

/** A token of the first user with these restrictions. */
async function token(server, restrictions) {
  const query = new URLSearchParams(restrictions);
  return JSON.parse(await server.ask("GET", `users/${server.login.user}/token?${query}`)).Token;
}

/** Opens a view with a token of one's own, does something there, and closes the page. */
async function opened(browser, server, fragment, restrictions, work) {
  const page = await browser.page(`${server.url}/hydrant/#${fragment}&token=${await token(server, restrictions)}`);
  try {
    await work(page);
    if (page.faults.length > 0) throw new Error(page.faults.join("\n"));
  } finally {
    await page.close();
  }
}

/** Whoever may look at connections but not close them is told so, and has no button. A connection has to be open. */
export function offersWhatIsPermitted(browser, server) {
  const restrictions = { scope: "connections", action: "list,get", specific: "*" };
  return opened(browser, server, "connections?sort=RemoteAddr", restrictions, async (page) => {
    await page.click("user:rocketskates", ".list");
    await page.shows("Closing it requires the claim connections/delete.");
    const offered = await page.evaluate(() =>
      document.querySelector(".closing").innerText.includes("Close connection"));
    if (offered) throw new Error("closing is offered");
  });
}

/** Whoever's token expires is told why, and continues in the same view. */
export function expires(browser, server) {
  return opened(browser, server, "tail?spec=jobs.*.*", { ttl: "3" }, async (page) => {
    page.expected.push(/status of 40[13]/);
    await page.shows("Your session has expired. Sign in again to continue in this view.");
    await page.type("#password", server.login.password);
    await page.key("Enter");
    await page.until("the same view", () => document.querySelector("[data-key=spec]")?.value === "jobs.*.*");
  });
}
