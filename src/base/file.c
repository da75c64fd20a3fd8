/* SPDX-License-Identifier: MIT */
#include "base/base.h"

tvlm_status tvlm_file_open(const char *path, tvlm_file *out, tvlm_error *err)
{
    tvlm_os_reason reason;
    out->path = path;
    if (!tvlm_os_open(path, &out->os, &reason))
        return tvlm_fail(err, TVLM_ERR_IO, "%s: cannot open: %s", path, reason.text);
    return TVLM_OK;
}

tvlm_status tvlm_file_read(const tvlm_file *file, uint64_t offset, void *out, size_t n,
                           tvlm_error *err)
{
    tvlm_os_reason reason;
    for (size_t done = 0; done < n;) {
        int64_t got =
            tvlm_os_read(&file->os, offset + done, (unsigned char *)out + done, n - done, &reason);
        if (got < 0)
            return tvlm_fail(err, TVLM_ERR_IO, "%s: cannot read: %s", file->path, reason.text);
        if (got == 0)
            return tvlm_fail(
                err, TVLM_ERR_IO, "%s: ends at byte %llu, it had %llu when it was opened",
                file->path, (unsigned long long)(offset + done), (unsigned long long)file->os.size);
        done += (size_t)got;
    }
    return TVLM_OK;
}

void tvlm_file_close(tvlm_file *file)
{
    tvlm_os_close(&file->os);
}
