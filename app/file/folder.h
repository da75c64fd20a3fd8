/* SPDX-License-Identifier: MIT
 * The entries of a folder, or an error that names it. */
#ifndef APP_FOLDER_H
#define APP_FOLDER_H

#include "tinyvlm.h"

/* As app_sys_list. */
tvlm_status app_folder_list(const char *folder, bool (*visit)(void *user, const char *path),
                            void *user, tvlm_error *err);

#endif
