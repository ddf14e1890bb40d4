import { h } from "./react.js"; export const Decisions = () => h('p', null, 'decisions');
export const Trail = () => null;
