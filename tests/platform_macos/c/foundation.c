/* A stand-in for Core Foundation and Keychain Services, as far as they are used: real objects with real counts, behind
 * the C interface that Apple documents. What was asked is recorded, and an object that is used after its end aborts.
 *
 * It knows nothing of macOS beyond its documentation: what it proves is that the calls are made with the right types,
 * that nothing leaks or is released twice, and that each status is understood.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STRING = 7, DATA = 20, ARRAY = 19, TABLE = 18, BOOLEAN = 21 };

typedef struct object {
    unsigned long type;
    long count; /* references; 0: gone. Constants begin with a million of them. */
    long length;
    unsigned char *bytes;
    const struct object **items;
} object;

static long alive;
static char record[65536];

long fake_alive(void) { return alive; }
const char *fake_record(void) { return record; }

void fake_note(const char *format, ...) {
    size_t used = strlen(record);
    va_list rest;
    va_start(rest, format);
    vsnprintf(record + used, sizeof record - used, format, rest);
    va_end(rest);
}

static const object *look(const object *given, unsigned long type) {
    if (given == NULL || given->count <= 0 || (type && given->type != type)) {
        fprintf(stderr, "not an object of type %lu\n", type);
        abort();
    }
    return given;
}

static object *make(unsigned long type, long length) {
    object *made = calloc(1, sizeof *made);
    made->type = type;
    made->count = 1;
    made->length = length;
    alive++;
    return made;
}

void *fake_bytes(unsigned long type, const void *bytes, long length) {
    object *made = make(type, length);
    made->bytes = malloc(length + 1);
    memcpy(made->bytes, bytes, length);
    return made;
}

const unsigned char *fake_content(const object *given) { return look(given, 0)->bytes; }

static const object *keep(const object *given) {
    ((object *)look(given, 0))->count++;
    return given;
}

void CFRelease(const object *given) {
    object *own = (object *)look(given, 0);
    if (--own->count > 0)
        return;
    long items = own->type == TABLE ? 2 * own->length : own->type == ARRAY ? own->length : 0;
    for (long n = 0; n < items; n++)
        CFRelease(own->items[n]);
    free(own->bytes);
    free(own->items);
    own->bytes = NULL;
    own->items = NULL;
    alive--; /* the object itself stays, so that its use is noticed */
}

const void *CFStringCreateWithBytes(const void *none, const char *bytes, long length, unsigned encoding,
                                    unsigned char external) {
    if (none != NULL || encoding != 0x08000100 || external)
        abort();
    return fake_bytes(STRING, bytes, length);
}

const void *CFDataCreate(const void *none, const char *bytes, long length) {
    if (none != NULL)
        abort();
    return fake_bytes(DATA, bytes, length);
}

const void *CFStringCreateExternalRepresentation(const void *none, const object *text, unsigned encoding,
                                                 unsigned char loss) {
    look(text, STRING);
    if (none != NULL || encoding != 0x08000100 || loss)
        abort();
    return fake_bytes(DATA, text->bytes, text->length);
}

long kCFTypeDictionaryKeyCallBacks[6] = {1}, kCFTypeDictionaryValueCallBacks[5] = {2};

const void *CFDictionaryCreate(const void *none, const void **keys, const void **values, long length,
                               const void *key_calls, const void *value_calls) {
    if (none != NULL || key_calls != kCFTypeDictionaryKeyCallBacks || value_calls != kCFTypeDictionaryValueCallBacks)
        abort();
    object *made = make(TABLE, length);
    made->items = calloc(2 * length + 1, sizeof *made->items);
    for (long n = 0; n < length; n++) {
        made->items[2 * n] = keep(keys[n]);
        made->items[2 * n + 1] = keep(values[n]);
    }
    return made;
}

static int equal(const object *one, const object *other) {
    return one->type == other->type && one->length == other->length &&
           (one->length == 0 || memcmp(one->bytes, other->bytes, one->length) == 0);
}

const void *CFDictionaryGetValue(const object *table, const object *key) {
    look(table, TABLE);
    for (long n = 0; n < table->length; n++)
        if (equal(table->items[2 * n], look(key, 0)))
            return table->items[2 * n + 1];
    return NULL;
}

long CFArrayGetCount(const object *array) { return look(array, ARRAY)->length; }
const void *CFArrayGetValueAtIndex(const object *array, long n) { return look(array, ARRAY)->items[n]; }
long CFDataGetLength(const object *data) { return look(data, DATA)->length; }
const void *CFDataGetBytePtr(const object *data) { return look(data, DATA)->bytes; }
unsigned long CFGetTypeID(const object *given) { return look(given, 0)->type; }
unsigned long CFStringGetTypeID(void) { return STRING; }
unsigned long CFDataGetTypeID(void) { return DATA; }

#define CONSTANT(name)                                                                                                 \
    static object object_##name = {STRING, 1000000, sizeof #name - 1, (unsigned char *)#name, NULL};                   \
    const void *name = &object_##name
static object yes = {BOOLEAN, 1000000, 0, NULL, NULL};
const void *kCFBooleanTrue = &yes;
CONSTANT(kSecClass);
CONSTANT(kSecClassGenericPassword);
CONSTANT(kSecAttrService);
CONSTANT(kSecAttrAccount);
CONSTANT(kSecAttrGeneric);
CONSTANT(kSecAttrLabel);
CONSTANT(kSecValueData);
CONSTANT(kSecReturnData);
CONSTANT(kSecReturnAttributes);
CONSTANT(kSecMatchLimit);
CONSTANT(kSecMatchLimitAll);
CONSTANT(kSecMatchLimitOne);
CONSTANT(kSecGuestAttributeAudit);
CONSTANT(kSecCodeInfoTeamIdentifier);
CONSTANT(kSecCodeInfoIdentifier);

/* --- Keychain Services ------------------------------------------------------------------------- */

enum { NOT_FOUND = -25300, DUPLICATE = -25299, NO_INTERACTION = -25308, PARAM = -50, NO_KEYCHAIN = -25307, MOST = 256 };

typedef struct {
    const object *fields[5]; /* service, account, generic, label, data */
    int foreign;             /* another program made it: its value would take a window */
} password;

static password passwords[MOST];
static int locked, gone, asks = 1, fail_after = -1, fail_status;

void fake_set(int is_locked, int is_gone) { locked = is_locked, gone = is_gone; }
void fake_fail(int changes, int status) { fail_after = changes, fail_status = status; }

static const void **name_of_field(int n) {
    static const void **names[] = {&kSecAttrService, &kSecAttrAccount, &kSecAttrGeneric, &kSecAttrLabel, &kSecValueData};
    return names[n];
}

void fake_foreign(const char *service, long service_length, const char *account, const char *generic, long length) {
    for (int n = 0; n < MOST; n++)
        if (passwords[n].fields[0] == NULL) {
            passwords[n].foreign = 1;
            passwords[n].fields[0] = fake_bytes(service_length < 0 ? DATA : STRING, service, labs(service_length));
            passwords[n].fields[1] = fake_bytes(STRING, account, strlen(account));
            passwords[n].fields[2] = fake_bytes(DATA, generic, length);
            passwords[n].fields[3] = fake_bytes(STRING, "", 0);
            passwords[n].fields[4] = fake_bytes(DATA, "theirs", 6);
            return;
        }
    abort();
}

static void forget(password *at) {
    for (int n = 0; n < 5; n++)
        if (at->fields[n] != NULL)
            CFRelease(at->fields[n]);
    memset(at, 0, sizeof *at);
}

void fake_reset(void) {
    for (int n = 0; n < MOST; n++)
        forget(&passwords[n]);
    locked = gone = 0, fail_after = -1, record[0] = 0;
}

static password *next(const object *query, int *from) {
    if (CFDictionaryGetValue(query, kSecClass) != kSecClassGenericPassword)
        abort();
    for (; *from < MOST; (*from)++) {
        password *at = &passwords[*from];
        int fits = at->fields[0] != NULL;
        for (int n = 0; fits && n < 2; n++) {
            const object *wanted = CFDictionaryGetValue(query, *name_of_field(n));
            fits = wanted == NULL || equal(wanted, at->fields[n]);
        }
        if (fits) {
            (*from)++;
            return at;
        }
    }
    return NULL;
}

static void note(const char *call, const object *query) {
    const object *service = CFDictionaryGetValue(query, kSecAttrService);
    const object *account = CFDictionaryGetValue(query, kSecAttrAccount);
    fake_note("%s %.*s/%.*s\n", call, service ? (int)service->length : 1, service ? (char *)service->bytes : "*",
              account ? (int)account->length : 1, account ? (char *)account->bytes : "*");
}

static int trouble(int changes, int reveals) {
    if (asks)
        abort(); /* nothing may be asked before windows were forbidden */
    if (gone)
        return NO_KEYCHAIN;
    if (changes && fail_after >= 0 && fail_after-- == 0)
        return fail_status;
    return locked && (changes || reveals) ? NO_INTERACTION : 0;
}

int SecKeychainSetUserInteractionAllowed(unsigned char allowed) {
    asks = allowed;
    return 0;
}

int SecKeychainGetStatus(const void *keychain, unsigned *status) {
    if (keychain != NULL)
        abort();
    *status = locked ? 2 : 7;
    return gone ? NO_KEYCHAIN : 0;
}

static const void *attributes(const password *at, int reveals) {
    const void *keys[5], *values[5];
    for (int n = 0; n < 5; n++)
        keys[n] = *name_of_field(n), values[n] = at->fields[n];
    return CFDictionaryCreate(NULL, keys, values, reveals ? 5 : 4, kCFTypeDictionaryKeyCallBacks,
                              kCFTypeDictionaryValueCallBacks);
}

int SecItemCopyMatching(const object *query, const void **result) {
    int reveals = CFDictionaryGetValue(query, kSecReturnData) != NULL, from = 0, status = trouble(0, reveals);
    int all = CFDictionaryGetValue(query, kSecMatchLimit) == kSecMatchLimitAll;
    note(reveals ? "reveal" : "look", query);
    if (status)
        return status;
    if (CFDictionaryGetValue(query, kSecReturnAttributes) != &yes || (all && reveals))
        return PARAM; /* as the documentation has it for generic passwords */
    const object *found[MOST];
    long count = 0;
    for (password *at; (all || count == 0) && (at = next(query, &from)) != NULL; count++) {
        if (reveals && at->foreign)
            return NO_INTERACTION;
        found[count] = attributes(at, reveals);
    }
    if (count == 0)
        return NOT_FOUND;
    if (!all) {
        *result = found[0];
        return 0;
    }
    object *array = make(ARRAY, count);
    array->items = calloc(count, sizeof *array->items);
    memcpy(array->items, found, count * sizeof *found);
    *result = array;
    return 0;
}

static void take(password *at, const object *content) {
    for (int n = 0; n < 5; n++) {
        const object *given = CFDictionaryGetValue(content, *name_of_field(n));
        if (given != NULL) {
            if (at->fields[n] != NULL)
                CFRelease(at->fields[n]);
            at->fields[n] = keep(look(given, n == 2 || n == 4 ? DATA : STRING));
        }
    }
}

int SecItemAdd(const object *content, const void **result) {
    int from = 0, status = trouble(1, 0);
    note("add", content);
    if (status)
        return status;
    if (result != NULL)
        abort();
    if (next(content, &from) != NULL)
        return DUPLICATE;
    for (int n = 0; n < MOST; n++)
        if (passwords[n].fields[0] == NULL) {
            take(&passwords[n], content);
            return 0;
        }
    abort();
}

int SecItemUpdate(const object *query, const object *content) {
    int from = 0;
    password *at = next(query, &from);
    if (at == NULL)
        return NOT_FOUND;
    note("update", query);
    int status = trouble(1, 0);
    if (status)
        return status;
    take(at, content);
    return 0;
}

int SecItemDelete(const object *query) {
    int from = 0, status = trouble(1, 0);
    note("delete", query);
    if (status)
        return status;
    password *at = next(query, &from);
    if (at == NULL)
        return NOT_FOUND;
    do
        forget(at);
    while ((at = next(query, &from)) != NULL);
    return 0;
}
