import { h } from "./react.js"; export const DecideBar = () => h("p", null, "decide");
export const DecideButtons = () => null;
