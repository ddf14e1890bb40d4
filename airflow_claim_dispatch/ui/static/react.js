// What the page of Airflow lends us: its React, its router and its components. No build, no copies.
const { React, ReactRouterDOM, ChakraUI } = globalThis;

export const { useCallback, useEffect, useId, useRef, useState } = React;
export const { Link: RouterLink, useSearchParams } = ReactRouterDOM;
export const Chakra = ChakraUI;

/** An element: `h(Chakra.Box, { p: 2 }, "text", h("b", null, "more"))`. Text is always text. */
export const h = React.createElement;
