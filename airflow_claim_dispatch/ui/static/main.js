// Airflow imports this module, then looks for its components by the names that the plugin gave.
import { Claimed } from "./claimed.js";
import { Page } from "./page.js";

globalThis["Claim Dispatch"] = Page;
globalThis["Claimed actions"] = Claimed;
