/* SPDX-License-Identifier: MIT */
#include "file/folder.h"

#include "common/common.h"
#include "system/system.h"

#include <errno.h>
#include <string.h>

tvlm_status app_folder_list(const char *folder, bool (*visit)(void *user, const char *path),
                            void *user, tvlm_error *err)
{
    if (app_sys_list(folder, visit, user)) return TVLM_OK;
    tvlm_status status = errno == ENOMEM ? TVLM_ERR_MEMORY : TVLM_ERR_IO;
    return app_fail(err, status, "%s: cannot list: %s", folder, strerror(errno));
}
