/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"
#include "file/output.h"
#include "system/system.h"

#include <signal.h>
#include <stdatomic.h>

static tvlm_cancel *flag;
static atomic_bool armed; /* somebody heeds the flag */
static atomic_int seen;

static void end(int number)
{
    app_output_unlink_all();
    app_sys_exit(EXIT_SIGNAL + number);
}

/* A core dump is wanted, not our exit code. */
static void quit(int number)
{
    app_output_unlink_all();
    signal(number, SIG_DFL);
    raise(number); /* ends the process when the handler returns */
}

static void on_signal(int number)
{
    int none = 0;
    if (!atomic_load(&armed) || !atomic_compare_exchange_strong(&seen, &none, number))
        end(number);
    else
        tvlm_cancel_request(flag);
}

void cli_signals_init(void)
{
    app_sys_on_signals(on_signal, quit);
}

tvlm_cancel *cli_cancel(void)
{
    if (!flag) flag = tvlm_cancel_new();
    atomic_store(&armed, flag != NULL);
    return flag;
}

void cli_signals_disarm(void)
{
    atomic_store(&armed, false);
}

int cli_signal(void)
{
    return atomic_load(&seen);
}

void cli_signals_forget(void)
{
    atomic_store(&armed, false);
    atomic_store(&seen, 0);
    if (flag) tvlm_cancel_reset(flag);
    cli_flush_again();
}
