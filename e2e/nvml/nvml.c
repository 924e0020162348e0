/* A pretend libnvidia-ml.so.1: what it says stands in the file that MODELOPS_FAKE_NVML names.
 *
 * The file has lines key=value (e2e/nvml/__init__.py writes them) and is read again when it changes, so a
 * test breaks a GPU by writing it.  Only what the node agent may ask is here: no UUID, no serial number.
 * Numbers of errors and layouts of structures are those of NVML 13, as nvidia-ml-py 13.615 declares them.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
       DRIVER_NOT_LOADED = 9, TIMEOUT = 10 };
enum { GPUS = 64, SLICES = 16, RECOVERY_FIELD = 230, XID_EVENT = 8, ALL_EVENTS = 0xffff };

typedef struct { int gpu, slice; } Device;
typedef struct { unsigned long long seen; } EventSet;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory2;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
typedef struct { unsigned multiprocessors, copy, decoder, encoder, jpeg, ofa, gpu_slices, compute_slices;
                 unsigned long long memory_mib; } Attributes;
typedef struct { Device *device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } Event;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;
typedef struct { uint32_t id, scope; int64_t timestamp, latency; int type, result; union { double d; unsigned u;
                 unsigned long long ull; } value; } Field;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char *text;
static struct stat known;
static int users;
static Device devices[GPUS][SLICES + 1]; /* slice SLICES: the GPU itself */

/* Read the file again if it is another one now; tests replace it by a rename. */
static void refresh(void) {
    const char *path = getenv("MODELOPS_FAKE_NVML");
    struct stat now;
    if (!path || stat(path, &now)) { free(text); text = NULL; return; }
    if (text && now.st_ino == known.st_ino && now.st_size == known.st_size &&
        now.st_mtim.tv_sec == known.st_mtim.tv_sec && now.st_mtim.tv_nsec == known.st_mtim.tv_nsec) return;
    FILE *file = fopen(path, "r");
    if (!file) return;
    free(text);
    text = calloc(1, (size_t)now.st_size + 2);
    text[0] = '\n';
    size_t length = fread(text + 1, 1, (size_t)now.st_size, file);
    text[length + 1] = 0;
    fclose(file);
    known = now;
}

/* Copy the value of a key to *out*; 0 when the file has no such line. */
static int value(const char *key, char *out, size_t size) {
    char line[128];
    snprintf(line, sizeof line, "\n%s=", key);
    pthread_mutex_lock(&mutex);
    refresh();
    char *at = text ? strstr(text, line) : NULL;
    if (at) {
        at += strlen(line);
        snprintf(out, size, "%.*s", (int)strcspn(at, "\n"), at);
    }
    pthread_mutex_unlock(&mutex);
    return at != NULL;
}

static int number(const char *key, unsigned long long *out) {
    char found[64];
    if (!value(key, found, sizeof found)) return 0;
    *out = strtoull(found, NULL, 10);
    return 1;
}

static unsigned long long number_or(const char *key, unsigned long long otherwise) {
    unsigned long long found = otherwise;
    number(key, &found);
    return found;
}

static void key_of(const Device *device, const char *name, char *out, size_t size) {
    if (device->slice == SLICES) snprintf(out, size, "gpu.%d.%s", device->gpu, name);
    else snprintf(out, size, "gpu.%d.slice.%d.%s", device->gpu, device->slice, name);
}

static int told(const Device *device, const char *name, unsigned long long *out) {
    char key[96];
    key_of(device, name, key, sizeof key);
    return number(key, out);
}

/* What every call about this device returns: 0, or the error that the file has for it.  A call to a GPU that
 * hangs comes back when the file no longer says so. */
static int state(const Device *device) {
    if (!users) return UNINITIALIZED;
    char key[96];
    snprintf(key, sizeof key, "gpu.%d.hangs", device->gpu);
    while (number_or(key, 0)) usleep(5000);
    snprintf(key, sizeof key, "gpu.%d.result", device->gpu);
    return (int)number_or(key, OK);
}

#define ANSWER(device) do { int result_ = state(device); if (result_) return result_; } while (0)

/* --- library and system ------------------------------------------------------------------------- */

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int result = (int)number_or("init", getenv("MODELOPS_FAKE_NVML") ? OK : DRIVER_NOT_LOADED);
    if (result == OK) users++;
    return result;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
    if (!users) return UNINITIALIZED;
    users--;
    return OK;
}

const char *nvmlErrorString(int result) { (void)result; return "an error of the pretend library"; }

int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    return value("driver", out, size) ? OK : NOT_SUPPORTED;
}

int nvmlSystemGetCudaDriverVersion_v2(int *out) {
    *out = (int)number_or("cuda", 0);
    return OK;
}

int nvmlDeviceGetCount_v2(unsigned *out) {
    if (!users) return UNINITIALIZED;
    int result = (int)number_or("result", OK);
    *out = (unsigned)number_or("count", 0);
    return result;
}

/* --- one GPU ------------------------------------------------------------------------------------ */

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **out) {
    if (index >= number_or("count", 0) || index >= GPUS) return INVALID_ARGUMENT;
    Device *device = &devices[index][SLICES];
    device->gpu = (int)index;
    device->slice = SLICES;
    ANSWER(device);
    *out = device;
    return OK;
}

int nvmlDeviceGetName(Device *device, char *out, unsigned size) {
    char key[96];
    ANSWER(device);
    key_of(device, "name", key, sizeof key);
    return value(key, out, size) ? OK : NOT_SUPPORTED;
}

static void fill_pci(Pci *out, const char *bus_id) {
    memset(out, 0, sizeof *out);
    snprintf(out->bus_id, sizeof out->bus_id, "%s", bus_id);
}

int nvmlDeviceGetPciInfo_v3(Device *device, Pci *out) {
    char key[96], bus_id[32];
    ANSWER(device);
    key_of(device, "bus", key, sizeof key);
    if (!value(key, bus_id, sizeof bus_id)) return NOT_SUPPORTED;
    fill_pci(out, bus_id);
    return OK;
}

int nvmlDeviceGetMemoryInfo(Device *device, Memory *out) {
    unsigned long long total, available;
    ANSWER(device);
    if (!told(device, "total", &total) || !told(device, "free", &available)) return NOT_SUPPORTED;
    *out = (Memory){total, available, total - available};
    return OK;
}

int nvmlDeviceGetMemoryInfo_v2(Device *device, Memory2 *out) {
    unsigned long long total, reserved, available;
    ANSWER(device);
    if (!told(device, "total", &total) || !told(device, "reserved", &reserved) ||
        !told(device, "free", &available)) return NOT_SUPPORTED;
    out->total = total;
    out->reserved = reserved;
    out->free = available;
    out->used = total - reserved - available;
    return OK;
}

int nvmlDeviceGetMPSComputeRunningProcesses_v3(Device *device, unsigned *count, Process *out) {
    unsigned long long running = 0;
    ANSWER(device);
    told(device, "mps", &running);
    if (running > 0 && (!out || *count < running)) { *count = (unsigned)running; return INSUFFICIENT_SIZE; }
    for (unsigned i = 0; i < running; i++) out[i] = (Process){i + 1, 1u << 20, ~0u, ~0u};
    *count = (unsigned)running;
    return OK;
}

/* --- MIG ---------------------------------------------------------------------------------------- */

int nvmlDeviceGetMigMode(Device *device, unsigned *now, unsigned *pending) {
    unsigned long long mode;
    ANSWER(device);
    if (!told(device, "mig", &mode)) return NOT_SUPPORTED;
    *now = *pending = (unsigned)mode;
    return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned *out) {
    ANSWER(device);
    *out = 7;
    return OK;
}

int nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned index, Device **out) {
    char key[96];
    unsigned long long total;
    ANSWER(device);
    snprintf(key, sizeof key, "gpu.%d.slice.%u.total", device->gpu, index);
    if (index >= SLICES || !number(key, &total)) return NOT_FOUND;
    Device *slice = &devices[device->gpu][index];
    slice->gpu = device->gpu;
    slice->slice = (int)index;
    *out = slice;
    return OK;
}

int nvmlDeviceGetAttributes_v2(Device *device, Attributes *out) {
    unsigned long long gpu_slices, compute_slices, total;
    ANSWER(device);
    if (!told(device, "gpuSlices", &gpu_slices) || !told(device, "computeSlices", &compute_slices) ||
        !told(device, "total", &total)) return NOT_SUPPORTED;
    memset(out, 0, sizeof *out);
    out->gpu_slices = (unsigned)gpu_slices;
    out->compute_slices = (unsigned)compute_slices;
    out->memory_mib = total >> 20;
    return OK;
}

/* --- links: "bus id of the other end", or "off" --------------------------------------------------- */

static int link_of(const Device *device, unsigned link, char *out, size_t size) {
    char name[32], key[96];
    snprintf(name, sizeof name, "link.%u", link);
    key_of(device, name, key, sizeof key);
    return value(key, out, size);
}

int nvmlDeviceGetNvLinkState(Device *device, unsigned link, unsigned *out) {
    char remote[32];
    ANSWER(device);
    if (!link_of(device, link, remote, sizeof remote)) return link ? INVALID_ARGUMENT : NOT_SUPPORTED;
    *out = strcmp(remote, "off") != 0;
    return OK;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(Device *device, unsigned link, Pci *out) {
    char remote[32];
    ANSWER(device);
    if (!link_of(device, link, remote, sizeof remote)) return INVALID_ARGUMENT;
    fill_pci(out, remote);
    return OK;
}

/* --- health ------------------------------------------------------------------------------------- */

int nvmlDeviceGetTotalEccErrors(Device *device, int type, int counter, unsigned long long *out) {
    ANSWER(device);
    if (type != 1 || counter != 0) return NOT_SUPPORTED; /* uncorrected, since the driver was loaded */
    return told(device, "ecc", out) ? OK : NOT_SUPPORTED;
}

int nvmlDeviceGetRemappedRows(Device *device, unsigned *corrected, unsigned *uncorrected, unsigned *pending,
                              unsigned *failed) {
    char key[96], found[64];
    ANSWER(device);
    key_of(device, "remapped", key, sizeof key);
    if (!value(key, found, sizeof found)) return NOT_SUPPORTED;
    return sscanf(found, "%u,%u,%u,%u", corrected, uncorrected, pending, failed) == 4 ? OK : INVALID_ARGUMENT;
}

int nvmlDeviceGetRetiredPagesPendingStatus(Device *device, int *out) {
    unsigned long long pending;
    ANSWER(device);
    if (!told(device, "retiredPending", &pending)) return NOT_SUPPORTED;
    *out = (int)pending;
    return OK;
}

int nvmlDeviceGetRetiredPages(Device *device, int cause, unsigned *count, unsigned long long *out) {
    unsigned long long retired;
    ANSWER(device);
    if (!told(device, cause == 0 ? "retiredSingle" : "retiredDouble", &retired)) return NOT_SUPPORTED;
    if (*count < retired) { *count = (unsigned)retired; return INSUFFICIENT_SIZE; }
    for (unsigned i = 0; out && i < retired; i++) out[i] = 4096ull * i;
    *count = (unsigned)retired;
    return OK;
}

int nvmlDeviceGetFieldValues(Device *device, int count, Field *fields) {
    unsigned long long action;
    ANSWER(device);
    for (int i = 0; i < count; i++) {
        int is_told = fields[i].id == RECOVERY_FIELD && told(device, "recovery", &action);
        fields[i].result = is_told ? OK : NOT_SUPPORTED;
        if (is_told) fields[i].value.u = (unsigned)action;
    }
    return OK;
}

/* --- events: events=<how many so far>, event.<n>=<gpu> <xid> --------------------------------------- */

int nvmlEventSetCreate(EventSet **out) {
    if (!users) return UNINITIALIZED;
    *out = malloc(sizeof **out);
    (*out)->seen = number_or("events", 0); /* what was before nobody hears */
    return OK;
}

int nvmlEventSetFree(EventSet *set) { free(set); return OK; }

int nvmlDeviceGetSupportedEventTypes(Device *device, unsigned long long *out) {
    ANSWER(device);
    *out = ALL_EVENTS;
    return OK;
}

int nvmlDeviceRegisterEvents(Device *device, unsigned long long types, EventSet *set) {
    (void)types; (void)set;
    ANSWER(device);
    return OK;
}

int nvmlEventSetWait_v2(EventSet *set, Event *out, unsigned timeout_ms) {
    for (unsigned waited = 0;; waited += 5) {
        if (number_or("events", 0) > set->seen) {
            char key[32], found[64];
            int gpu = 0;
            unsigned long long xid = 0;
            snprintf(key, sizeof key, "event.%llu", ++set->seen);
            if (!value(key, found, sizeof found) || sscanf(found, "%d %llu", &gpu, &xid) != 2) continue;
            *out = (Event){&devices[gpu][SLICES], XID_EVENT, xid, ~0u, ~0u};
            return OK;
        }
        if (waited >= timeout_ms) return TIMEOUT;
        usleep(5000);
    }
}
