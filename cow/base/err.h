/* cow/base/err.h - names and texts of negative errno values.
 * Job:     turn an error code into words for messages; no translation, no state.
 * Errors:  none. A positive number is taken as the errno itself, so both signs work.
 * Threads: any; the returned strings are static and live for ever. */

#ifndef UMBRA_COW_BASE_ERR_H
#define UMBRA_COW_BASE_ERR_H

/**
 * The symbol: err_name(-ENOENT) is "ENOENT"; 0 is "OK"; what libc does not know is "EUNKNOWN".
 * For logs and machine-readable output.
 */
const char *err_name(int r);

/**
 * The sentence: err_text(-ENOENT) is "No such file or directory", never translated, so that logs
 * of different locales can be compared. 0 is "Success"; unknown is "Unknown error".
 */
const char *err_text(int r);

#endif
