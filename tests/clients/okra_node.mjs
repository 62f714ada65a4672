// Runs both versions of okra-node as they are, and prints what each call gave as JSON. Their host is
// fixed: HTTPS_PROXY leads them here, and axios 0.19 then sends plain requests with absolute targets.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, key, customer, record, account, bank, row] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${folder}/package.json`));
const old = require("okra-node-0.1");
const { default: client, ...names } = await import(pathToFileURL(require.resolve("okra-node-0.2")));
const okra = client ?? names;

const balance = account.replace(/..$/, (last) => (255 - parseInt(last, 16)).toString(16).padStart(2, "0"));
const days = { from: "2020-04-02", to: "2035-12-31" };
const page = { page: 1, limit: 20 };
const results = {};

async function note(name, call) {
  try {
    results[name] = { data: await call() };
  } catch (error) {
    results[name] = { error: error?.response?.data ?? error?.error_payload ?? String(error?.stack ?? error) };
  }
}

async function first(name, ...given) {
  await note(`0.1 ${name}`, () =>
    new Promise((resolve, reject) =>
      old[name](...given, (error, data) => (error ? reject(error) : resolve(data))).catch(reject)));
}

await first("getBanks");
await first("getBankById", bank);
for (const name of ["getAuth", "getTransactions", "getBalances", "getRecords", "getAccounts", "getProducts", "getCustomers"]) {
  await first(name, key, page);
}
for (const name of ["getAuthByCustomer", "getBalanceByCustomer", "getTransactionByCustomer", "getAccountByCustomer"]) {
  await first(name, key, { customer, ...page });
}
for (const name of ["getAuthByDate", "getBalanceByDate", "getTransactionByDate"]) {
  await first(name, key, { ...days, ...page });
}
for (const name of ["getAuthByBank", "getTransactionByBank", "getAccountByBank"]) {
  await first(name, key, { bank, ...page });
}
for (const name of ["getAuthByCustomerDate", "getBalanceByCustomerDate", "getAccountByCustomerDate"]) {
  await first(name, key, { customer, ...days, ...page });
}
await first("getTransactionByCustomerDate", key, { customer_id: customer, ...days, ...page });
await first("getBalanceById", key, { id: balance, ...page });
await first("getBalanceByAccount", key, { account, ...page });
await first("getTransactionById", key, { id: row, ...page });
await first("getTransactionByAccount", key, { account, ...page });
await first("getTransactionByRecord", key, { record_id: record, ...page });
await first("getTransactionByType", key, { type: "debit", value: "", ...page });
await first("getRecordByMethod", key, { record, method: "BALANCE" });
await first("getProductsByRecord", key, { record_id: record, ...page });
await first("getTotalDebitCredits", key, { account });
await first("refreshBalance", key, { account_id: account, record_id: record });
await first("checkBalance", key, { account_id: account, record_id: record });
await first("getPeriodicBalance", key, { record_id: record, account_id: account, currency: "NGN" });
await first("getIdentityByCustomer", key, { customer, ...page });
await first("getBalanceById", "wrong", { id: balance }).then(() => {
  results["0.1 wrong key"] = results["0.1 getBalanceById"];
});
await first("getBalanceById", key, { id: balance, ...page });

const second = (name, call) => note(`0.2 ${name}`, call);
const made = (kind) => new okra[kind](key, "sandbox");
await second("banks", () => made("Banks").get());
await second("auth of a customer", () => made("Auth").get({ customer }));
await second("balance of a customer", () => made("Balance").get({ customer }));
await second("balance of an account", () => made("Balance").get({ account_id: account }));
await second("transactions of a customer", () => made("Transactions").get({ customer }));
await second("the next page", async () => {
  const page = await made("Transactions").get({ customer });
  return page.nextPage();
});
await second("customers", () => made("Customers").get());
await second("accounts of a customer", () => made("Accounts").get({ customer }));
await second("a refresh", () => made("Balance").refresh({ account_id: account }));
await second("a refusal", () => made("Balance").get({ id: "0".repeat(24) }));

console.log(JSON.stringify(results));
