/**
 * The address of your API. This one is that of `make run`, for the developer tools on the same machine. A released mini program
 * needs https and a domain on WeChat's list. No secret belongs here: everybody can read the code of a mini program.
 */
module.exports = { base: "http://127.0.0.1:8000" };
