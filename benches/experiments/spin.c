/* Would a shard that spins be faster? Lets the threads of a program poll for a while before they sleep.
 *
 * Replaces `epoll_wait` in threads whose name begins with SPIN_THREADS ("shard-"): before a call that may wait blocks,
 * it asks without waiting for up to SPIN_US microseconds. With SPIN_YIELD=1 it offers the core to other threads in
 * between. Without SPIN_US it changes nothing. Results: docs/benchmarks/experiments-2026-11-29.md.
 *
 * usage: cc -O2 -shared -fPIC -o spin.so spin.c && SPIN_US=50 LD_PRELOAD=./spin.so hydrant-loadtest fleet ...
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int enter(int poll, struct epoll_event *events, int most, int timeout) {
    return syscall(SYS_epoll_pwait, poll, events, most, timeout, (void *)0, 8);
}

static long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

/* For how many nanoseconds this thread spins. */
static long spins(void) {
    static __thread long known = -1;
    char name[16] = "";
    if (known >= 0)
        return known;
    const char *micros = getenv("SPIN_US"), *threads = getenv("SPIN_THREADS");
    threads = threads ? threads : "shard-";
    pthread_getname_np(pthread_self(), name, sizeof name);
    return known = micros && !strncmp(name, threads, strlen(threads)) ? atol(micros) * 1000 : 0;
}

int epoll_wait(int poll, struct epoll_event *events, int most, int timeout) {
    long spin = timeout ? spins() : 0;
    long until = spin ? now() + spin : 0;
    int yields = spin && getenv("SPIN_YIELD");
    while (spin && now() < until) {
        int found = enter(poll, events, most, 0);
        if (found)
            return found;
        if (yields)
            sched_yield();
    }
    return enter(poll, events, most, timeout);
}
