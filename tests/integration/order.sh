#!/bin/bash
# A set is one instant over all its directories (order.c says what that means and how it is seen).
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
sets=200
[ -z "${UMBRA_FULL-}" ] || sets=1000
mkdir "$T_TMP/a" "$T_TMP/b"
t_ok "a coordinator starts" u_coordinator
t_ok "protect a" umbra protect "$T_TMP/a"
t_ok "protect b" umbra protect "$T_TMP/b"
"$UMBRA_BUILD/tests/integration/order" $sets "$T_TMP/a" "$T_TMP/b" >"$T_TMP/out" 2>&1 3>&-
t_cases "$sets sets" "$T_TMP/out"
t_ok "delete all of a" u_delete --for "$T_TMP/a" --all
t_ok "delete all of b" u_delete --for "$T_TMP/b" --all
t_ok "unprotect a" umbra unprotect "$T_TMP/a"
t_ok "unprotect b" umbra unprotect "$T_TMP/b"
u_end
