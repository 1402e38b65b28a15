/* An open-loop load generator for one URL: requests are sent when they are due, whatever became of those before, and a latency counts from
 * the time that its request was due. So a server that stalls is charged for all who would have come meanwhile (wrk, a closed loop, just
 * sends less). Due times are a Poisson process of a fixed seed, which is how many independent clients come.
 *
 * usage: openloop PORT RATE SECONDS CONNECTIONS REQUEST-FILE [BOUND-MS]      one line of JSON on stdout; exit 1 where it cannot work at all
 *
 * Its limits: one thread, loopback, keep-alive, one request in flight a connection, requests that fit the socket's send buffer. A request
 * that finds no connection free waits for one, and that wait counts. What has no answer GRACE_S after the last due time counts as failed,
 * and with the time until then in the percentiles. `late_us` says how late requests left though a connection was free: 99 of 100 left
 * within it, so a latency is known to about that, and where it is large the machine had no CPU left for the generator. `good` are the
 * answers 200, those within BOUND-MS where that is given; `accepted` are all answers 200, and `accepted_p50_ms` and `accepted_p99_ms` are
 * theirs alone: a server that refuses what it cannot do is measured by what it accepts. `refused` are the answers 503, with how soon they
 * come from when they were sent, and how many of them say when to try again. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define GRACE_S 2.0
#define REPLY_MAX 65536

struct connection {
    int fd;
    long request;    /* the one in flight, or -1 */
    double idle_since, left_at;
    size_t have;     /* bytes of its reply so far */
    char reply[REPLY_MAX + 1];
};

static const char *request_bytes;
static size_t request_size;
static double *due, *latency, *late, *taken, *refusal, bound_s = INFINITY;
static long total, sent, answered, failed, good, accepted, refused, told;
static struct connection *connections, **idle;
static int idle_count, port, poll;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) {
    fprintf(stderr, "openloop: %s: %s\n", what, strerror(errno));
    exit(1);
}

static char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    char *bytes = malloc(1 << 20);
    if (!file || !bytes) die(path);
    *size = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    return bytes;
}

static void dial(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->request = -1;
    c->have = 0;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event);
}

/* Whether the reply is whole: by its content-length, or else by the last chunk. */
static int whole(struct connection *c) {
    c->reply[c->have] = 0;
    char *end = strstr(c->reply, "\r\n\r\n");
    if (!end) return 0;
    size_t head = end + 4 - c->reply;
    char *length = strcasestr(c->reply, "\r\ncontent-length:");
    if (length && length < end) return c->have >= head + strtoul(length + 17, NULL, 10);
    return c->have >= head + 5 && !memcmp(c->reply + c->have - 5, "0\r\n\r\n", 5);
}

static void hand_in(struct connection *c, double at) {
    double took = latency[answered++] = at - due[c->request];
    if (!strncmp(c->reply, "HTTP/1.1 200", 12)) {
        taken[accepted++] = took;
        good += took <= bound_s;
    } else {
        failed++;
        if (!strncmp(c->reply, "HTTP/1.1 503", 12)) {
            refusal[refused++] = at - c->left_at;
            told += !!strcasestr(c->reply, "\r\nretry-after:");
        }
    }
    c->request = -1;
    c->have = 0;
    c->idle_since = at;
    idle[idle_count++] = c;
}

static void receive(struct connection *c) {
    ssize_t got;
    while ((got = read(c->fd, c->reply + c->have, REPLY_MAX - c->have)) > 0) {
        c->have += got;
        if (whole(c)) {
            hand_in(c, now());
            return;
        }
    }
    if (got == 0 || (got < 0 && errno != EAGAIN)) { /* hung up: its request stays unanswered, and the connection is not used again */
        close(c->fd);
        c->fd = -1;
    }
}

static void send_due(double at) {
    for (; sent < total && due[sent] <= at && idle_count; sent++) {
        struct connection *c = idle[--idle_count];
        if (c->fd < 0) dial(c); /* servers end connections that are idle for a while */
        c->request = sent;
        c->left_at = now();
        if (write(c->fd, request_bytes, request_size) != (ssize_t)request_size) {
            close(c->fd);
            c->fd = -1;
        }
        late[sent] = now() - fmax(due[sent], c->idle_since);
    }
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(double *values, long count, double share) { /* of sorted values: the nearest rank */
    long rank = (long)ceil(share * count);
    return count ? values[rank > 0 ? rank - 1 : 0] : 0;
}

static void report(double began, double ended) {
    long unanswered = total - answered;
    for (long i = answered; i < total; i++) latency[i] = 0;
    long next = answered;
    for (long i = sent; i < total; i++) latency[next++] = ended - due[i];
    for (long i = 0; next < total; i++)
        if (connections[i].request >= 0) latency[next++] = ended - due[connections[i].request];
    qsort(latency, total, sizeof *latency, ascending);
    qsort(late, sent, sizeof *late, ascending);
    qsort(taken, accepted, sizeof *taken, ascending);
    qsort(refusal, refused, sizeof *refusal, ascending);
    printf("{\"requests\": %ld, \"seconds\": %f, \"failed\": %ld, \"p50_ms\": %f, \"p99_ms\": %f, \"p999_ms\": %f, \"late_us\": %f, "
           "\"good\": %ld, \"accepted\": %ld, \"accepted_p50_ms\": %f, \"accepted_p99_ms\": %f, "
           "\"refused\": %ld, \"refused_p50_ms\": %f, \"refused_p99_ms\": %f, \"told\": %ld}\n", answered,
           ended - began, failed + unanswered, percentile(latency, total, .5) * 1e3, percentile(latency, total, .99) * 1e3,
           percentile(latency, total, .999) * 1e3, percentile(late, sent, .99) * 1e6, good, accepted, percentile(taken, accepted, .5) * 1e3,
           percentile(taken, accepted, .99) * 1e3, refused, percentile(refusal, refused, .5) * 1e3, percentile(refusal, refused, .99) * 1e3, told);
}

int main(int count, char **words) {
    if (count != 6 && count != 7) return fprintf(stderr, "usage: openloop PORT RATE SECONDS CONNECTIONS REQUEST-FILE [BOUND-MS]\n"), 1;
    if (count == 7) bound_s = atof(words[6]) / 1e3;
    int open = atoi(words[4]);
    port = atoi(words[1]);
    double rate = atof(words[2]), seconds = atof(words[3]);
    request_bytes = read_file(words[5], &request_size);
    total = (long)(rate * seconds);
    due = calloc(total, sizeof *due), taken = calloc(total, sizeof *taken), refusal = calloc(total, sizeof *refusal), latency = calloc(total, sizeof *latency), late = calloc(total, sizeof *late);
    connections = calloc(open, sizeof *connections), idle = calloc(open, sizeof *idle);
    struct rlimit files;
    if (!getrlimit(RLIMIT_NOFILE, &files)) files.rlim_cur = files.rlim_max, setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_TIMERSLACK, 1000UL); /* ns; 50 µs by default, as long as some of what is measured */
    poll = epoll_create1(0);
    for (int i = 0; i < open; i++) {
        dial(&connections[i]);
        idle[idle_count++] = &connections[i];
    }
    srand48(1);
    double began = now() + 0.01, at = began;
    for (long i = 0; i < total; i++) due[i] = at += -log(1 - drand48()) / rate;
    double end = (total ? due[total - 1] : began) + GRACE_S;
    while (answered < total && (at = now()) < end) {
        send_due(at);
        double until = (sent < total && idle_count ? due[sent] : end) - now();
        struct timespec timeout = {0};
        if (until > 0) timeout.tv_sec = (time_t)until, timeout.tv_nsec = (long)((until - (time_t)until) * 1e9);
        struct epoll_event events[64];
        int ready = epoll_pwait2(poll, events, 64, &timeout, NULL);
        for (int i = 0; i < ready; i++) receive(events[i].data.ptr);
    }
    report(began, now());
    return 0;
}
