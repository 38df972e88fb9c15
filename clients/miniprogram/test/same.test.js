/** The reader passes the tests of clients/js: positions, keys, refreshes, lost and silent lines, cuts at every byte. */
process.env.AIDEER_CLIENT = new URL("./as_client.js", import.meta.url).href;
for (const name of ["events", "answers", "calls"]) await import(`../../js/test/${name}.test.js`);
