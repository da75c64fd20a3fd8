/* SPDX-License-Identifier: MIT */
#define _XOPEN_SOURCE 700 /* sigaction, SIGXFSZ */
#include "cli/cli.h"
#include "file/output.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#ifdef _WIN32
#include <process.h>
#else
#include <unistd.h>
#endif

static tvlm_cancel *flag;
static atomic_bool armed; /* somebody heeds the flag */
static atomic_int seen;

/* Of SIGQUIT a core dump is wanted, not our exit code. */
static void end(int number)
{
    tvlm_output_unlink_all();
#ifdef SIGQUIT
    if (number == SIGQUIT) {
        signal(number, SIG_DFL);
        raise(number); /* ends the process when the handler returns */
        return;
    }
#endif
    _exit(EXIT_SIGNAL + number);
}

static void on_signal(int number)
{
    int none = 0;
    if (!atomic_load(&armed) || !atomic_compare_exchange_strong(&seen, &none, number))
        end(number);
    else
        tvlm_cancel_request(flag);
}

#ifdef _WIN32
static void handle(int number, void (*with)(int))
{
    signal(number, with);
}
#else
/* What was ignored at the start stays so (nohup). Blocking calls end with EINTR. */
static void handle(int number, void (*with)(int))
{
    struct sigaction action = {.sa_handler = with}, before;
    sigemptyset(&action.sa_mask);
    if (sigaction(number, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        sigaction(number, &action, NULL);
}
#endif

void cli_signals_init(void)
{
    handle(SIGINT, on_signal);
    handle(SIGTERM, on_signal);
#ifndef _WIN32
    handle(SIGHUP, on_signal);
    handle(SIGQUIT, end);
    handle(SIGPIPE, SIG_IGN); /* the write tells */
    handle(SIGXFSZ, SIG_IGN);
#endif
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
}
