/* Could io_uring win? The floor of `hydrant-loadtest floor` in C: system calls beside batches of io_uring.
 *
 * One writer on the first core, N loopback connections, a reader on the second core that drains them. A turn writes K
 * frames to every connection (or, with -o, each of K frames to another one) and ends when the reader has everything.
 * The figure is the CPU time of the process without the reader, so the kernel's workers for io_uring count too.
 * Methods take turns in every round; printed are the median, the least and the greatest of the rounds.
 *
 * No liburing: the ring is a few lines of mmap. Results: docs/benchmarks/experiments-2026-11-29.md.
 *
 * usage: cc -O2 -pthread -o uring uring.c && ./uring [-n CONNECTIONS] [-k K] [-b SIZE] [-r ROUNDS] [-s SECONDS] [-o]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CHECK(what) do { if (!(what)) { perror(#what); exit(1); } } while (0)
enum { RING = 1024, ROUNDS = 99, LONGEST = 1024 };

static int connections = 1000, k = 1, size = 1028, rounds = 5, one;
static double seconds = 1;
static int *near, *far;
static char *frames;            /* K frames, one behind the other. */
static struct iovec *slices;    /* The same frames as K slices; each in memory of its own. */
static volatile unsigned long target;
static sem_t done;
static unsigned long shorts;    /* Writes that did not fit at once. */

/* How a turn writes. */
struct method {
    const char *name;
    unsigned flags;             /* Of io_uring_setup. */
    int ring, joined, fixed, batch;
};
static const struct method methods[] = {
    {"writev of K frames (the floor)", 0, 0, 0, 0, 0},
    {"send of the joined frames", 0, 0, 1, 0, 0},
    {"ring: writev, 1,000 a batch", 0, 1, 0, 0, 1000},
    {"ring: send, 16 a batch", 0, 1, 1, 0, 16},
    {"ring: send, 1,000 a batch", 0, 1, 1, 0, 1000},
    {"ring: send, 1,000 a batch, tuned", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, 1, 1, 1, 1000},
};
enum { METHODS = sizeof methods / sizeof *methods };

struct ring {
    int fd;
    unsigned *sq_tail, *sq_mask, *cq_head, *cq_tail, *cq_mask;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
} rings[METHODS];

static double seconds_of(clockid_t clock) {
    struct timespec now;
    CHECK(clock_gettime(clock, &now) == 0);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void pin(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    CHECK(sched_setaffinity(0, sizeof set, &set) == 0);
}

static void *drain(void *unused) {
    static char buffer[256 << 10];
    struct epoll_event ready[1024];
    unsigned long received = 0, told = 0;
    int poll = epoll_create1(0);
    pin(1);
    for (int at = 0; at < connections; at++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = near[at]};
        CHECK(epoll_ctl(poll, EPOLL_CTL_ADD, near[at], &event) == 0);
    }
    for (;;) {
        int found = epoll_wait(poll, ready, 1024, 50);
        for (int at = 0; at < found; at++) {
            ssize_t got;
            do {
                got = read(ready[at].data.fd, buffer, sizeof buffer);
                received += got > 0 ? got : 0;
            } while (got == sizeof buffer);
        }
        if (received >= target && target > told) {
            told = target;
            sem_post(&done);
        }
    }
    return unused;
}

static void connect_all(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(listener, (void *)&address, length) == 0 && listen(listener, 128) == 0);
    CHECK(getsockname(listener, (void *)&address, &length) == 0);
    for (int at = 0; at < connections; at++) {
        near[at] = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(connect(near[at], (void *)&address, length) == 0);
        CHECK((far[at] = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0);
        CHECK(setsockopt(far[at], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) == 0);
        CHECK(fcntl(near[at], F_SETFL, O_NONBLOCK) == 0);
    }
}

static void open_ring(struct ring *ring, const struct method *method) {
    struct io_uring_params params = {.flags = method->flags};
    ring->fd = syscall(SYS_io_uring_setup, RING, &params);
    CHECK(ring->fd >= 0);
    size_t sq = params.sq_off.array + params.sq_entries * 4, cq = params.cq_off.cqes + params.cq_entries * 16;
    char *shared = mmap(0, sq > cq ? sq : cq, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, 0);
    ring->sqes = mmap(0, params.sq_entries * sizeof *ring->sqes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                      ring->fd, IORING_OFF_SQES);
    CHECK(shared != MAP_FAILED && ring->sqes != MAP_FAILED && (params.features & IORING_FEAT_SINGLE_MMAP));
    ring->sq_tail = (void *)(shared + params.sq_off.tail);
    ring->sq_mask = (void *)(shared + params.sq_off.ring_mask);
    ring->cq_head = (void *)(shared + params.cq_off.head);
    ring->cq_tail = (void *)(shared + params.cq_off.tail);
    ring->cq_mask = (void *)(shared + params.cq_off.ring_mask);
    ring->cqes = (void *)(shared + params.cq_off.cqes);
    unsigned *array = (void *)(shared + params.sq_off.array);
    for (unsigned at = 0; at < params.sq_entries; at++)
        array[at] = at;
    if (method->fixed)
        CHECK(syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_FILES, far, connections) == 0);
}

/* Writes what is left of a connection's bytes, which are those of `frames` from `from` on. */
static void finish(int fd, const char *bytes, size_t from, size_t total) {
    shorts++;
    while (from < total) {
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        CHECK(poll(&wait, 1, 20000) == 1);
        ssize_t some = send(fd, bytes + from, total - from, MSG_NOSIGNAL);
        CHECK(some > 0 || errno == EAGAIN);
        from += some > 0 ? some : 0;
    }
}

/* What the turn writes as its `at`-th write: to which connection, and which bytes. */
struct write {
    int conn;
    const char *bytes;
    size_t total;
};
static struct write write_of(unsigned long turn, int at) {
    if (one)
        return (struct write){(turn * k + at) % connections, frames + (size_t)at * size, size};
    return (struct write){at, frames, (size_t)k * size};
}

static void turn_by_calls(const struct method *method, unsigned long turn, int writes) {
    for (int at = 0; at < writes; at++) {
        struct write w = write_of(turn, at);
        ssize_t some = method->joined ? send(far[w.conn], w.bytes, w.total, MSG_NOSIGNAL)
                                      : writev(far[w.conn], slices + (one ? at : 0), one ? 1 : k);
        CHECK(some >= 0 || errno == EAGAIN);
        if (some < (ssize_t)w.total)
            finish(far[w.conn], w.bytes, some > 0 ? some : 0, w.total);
    }
}

static void prepare(struct io_uring_sqe *sqe, const struct method *method, struct write w, int at) {
    memset(sqe, 0, sizeof *sqe);
    sqe->fd = method->fixed ? w.conn : far[w.conn];
    sqe->flags = method->fixed ? IOSQE_FIXED_FILE : 0;
    sqe->user_data = at;
    if (method->joined) {
        sqe->opcode = IORING_OP_SEND;
        sqe->addr = (unsigned long)w.bytes;
        sqe->len = w.total;
        sqe->msg_flags = MSG_NOSIGNAL;
    } else {
        sqe->opcode = IORING_OP_WRITEV;
        sqe->addr = (unsigned long)(slices + (one ? at : 0));
        sqe->len = one ? 1 : k;
    }
}

static void turn_by_ring(struct ring *ring, const struct method *method, unsigned long turn, int writes) {
    for (int first = 0; first < writes; first += method->batch) {
        int count = writes - first < method->batch ? writes - first : method->batch;
        unsigned tail = *ring->sq_tail;
        for (int at = 0; at < count; at++)
            prepare(&ring->sqes[(tail + at) & *ring->sq_mask], method, write_of(turn, first + at), first + at);
        __atomic_store_n(ring->sq_tail, tail + count, __ATOMIC_RELEASE);
        int sent = syscall(SYS_io_uring_enter, ring->fd, count, count, IORING_ENTER_GETEVENTS, 0, 0);
        CHECK(sent == count);
        unsigned head = *ring->cq_head, end = __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE);
        CHECK(end - head == (unsigned)count);
        for (; head != end; head++) {
            struct io_uring_cqe *cqe = &ring->cqes[head & *ring->cq_mask];
            struct write w = write_of(turn, cqe->user_data);
            if (cqe->res < 0 && cqe->res != -EAGAIN) {
                errno = -cqe->res;
                CHECK(!"a write failed");
            }
            if (cqe->res < (int)w.total)
                finish(far[w.conn], w.bytes, cqe->res > 0 ? cqe->res : 0, w.total);
        }
        __atomic_store_n(ring->cq_head, head, __ATOMIC_RELEASE);
    }
}

/* Runs turns for `seconds`; returns microseconds of CPU per delivery. */
static double measure(int which, clockid_t reader) {
    const struct method *method = &methods[which];
    int writes = one ? k : connections;
    double begin = 0, cpu = 0;
    unsigned long turns = 0;
    static unsigned long number;
    /* The first turn warms up. */
    do {
        if (turns++ == 1) {
            begin = seconds_of(CLOCK_MONOTONIC);
            cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - seconds_of(reader);
        }
        __atomic_add_fetch(&target, (unsigned long)k * size * (one ? 1 : connections), __ATOMIC_SEQ_CST);
        if (method->ring)
            turn_by_ring(&rings[which], method, number++, writes);
        else
            turn_by_calls(method, number++, writes);
        CHECK(sem_wait(&done) == 0);
    } while (turns < 3 || seconds_of(CLOCK_MONOTONIC) - begin < seconds);
    cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - seconds_of(reader) - cpu;
    return cpu * 1e6 / ((turns - 1) * (double)k * (one ? 1 : connections));
}

static int by_size(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void options(int argc, char **argv) {
    for (int option; (option = getopt(argc, argv, "n:k:b:r:s:o")) != -1;)
        switch (option) {
        case 'n': connections = atoi(optarg); break;
        case 'k': k = atoi(optarg); break;
        case 'b': size = atoi(optarg); break;
        case 'r': rounds = atoi(optarg); break;
        case 's': seconds = atof(optarg); break;
        case 'o': one = 1; break;
        default: exit(2);
        }
    CHECK(connections > 0 && connections <= 20000 && k > 0 && k <= LONGEST && size > 0 && rounds <= ROUNDS);
}

static void allocate(void) {
    near = calloc(connections, sizeof *near);
    far = calloc(connections, sizeof *far);
    slices = calloc(k, sizeof *slices);
    frames = malloc((size_t)k * size);
    for (int at = 0; at < k * size; at++)
        frames[at] = rand();
    for (int at = 0; at < k; at++) {
        slices[at] = (struct iovec){malloc(size), size};
        memcpy(slices[at].iov_base, frames + (size_t)at * size, size);
    }
}

int main(int argc, char **argv) {
    static double all[METHODS][ROUNDS];
    pthread_t thread;
    clockid_t reader;
    options(argc, argv);
    struct rlimit files = {2 * connections + 64, 2 * connections + 64};
    CHECK(setrlimit(RLIMIT_NOFILE, &files) == 0);
    allocate();
    connect_all();
    CHECK(sem_init(&done, 0, 0) == 0 && pthread_create(&thread, 0, drain, 0) == 0);
    CHECK(pthread_getcpuclockid(thread, &reader) == 0);
    pin(0);
    for (int which = 0; which < METHODS; which++)
        if (methods[which].ring)
            open_ring(&rings[which], &methods[which]);
    for (int round = 0; round < rounds; round++)
        for (int which = 0; which < METHODS; which++)
            all[which][round] = measure(which, reader);
    printf("%d connections, K = %d, %d bytes, %s; CPU us per delivery\n", connections, k, size,
           one ? "one receiver per frame" : "every frame to all");
    for (int which = 0; which < METHODS; which++)
        qsort(all[which], rounds, sizeof(double), by_size);
    for (int which = 0; which < METHODS; which++)
        printf("%-34s %7.3f (%.3f .. %.3f)  %.3f\n", methods[which].name, all[which][rounds / 2], all[which][0],
               all[which][rounds - 1], all[which][rounds / 2] / all[0][rounds / 2]);
    printf("writes that did not fit at once: %lu\n", shorts);
    return 0;
}
