// The functions of a PAC script that need neither names nor addresses; the others are in engine.rs.
// Netscape, "Navigator Proxy Auto-Config File Format" (1996); the ones ending in Ex are Microsoft's, for IPv6.

function isPlainHostName(host) {
    return host.indexOf(".") < 0 && host.indexOf(":") < 0;
}

function dnsDomainIs(host, domain) {
    return host.toLowerCase().endsWith(domain.toLowerCase());
}

function localHostOrDomainIs(host, whole) {
    return host == whole || (isPlainHostName(host) && whole.startsWith(host + "."));
}

dnsResolve = (function (native) {
    return function (host) {
        var ip = native(host);
        return ip === undefined ? null : ip;
    };
})(dnsResolve);

function isResolvable(host) {
    return dnsResolve(host) !== null;
}

function isResolvableEx(host) {
    return dnsResolveEx(host) !== "";
}

function dnsDomainLevels(host) {
    return host.split(".").length - 1;
}

function getClientVersion() {
    return "1.0";
}

var weekdayRange, dateRange, timeRange;
(function () {
    var DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    var MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

    // The arguments without a "GMT" at their end, and now by that clock or the local one.
    function read(given) {
        var words = Array.prototype.slice.call(given);
        var gmt = words[words.length - 1] === "GMT";
        if (gmt) words.pop();
        var at = new Date(), zone = gmt ? "UTC" : "";
        return { words: words, part: function (name) { return at["get" + zone + name](); } };
    }

    // From the later to the earlier goes over the turn of the week, year or day.
    function within(from, now, to) {
        return from <= to ? from <= now && now <= to : from <= now || now <= to;
    }

    weekdayRange = function () {
        var asked = read(arguments), first = DAYS.indexOf(asked.words[0]);
        var last = asked.words.length > 1 ? DAYS.indexOf(asked.words[1]) : first;
        return first >= 0 && last >= 0 && within(first, asked.part("Day"), last);
    };

    // A day, a month, a year, or several of them, as one number that sorts; and which of them are in it.
    function date(words) {
        var value = 0, units = "";
        words.forEach(function (word) {
            var month = MONTHS.indexOf(word);
            if (month >= 0) {
                value += (month + 1) * 100;
                units += "m";
            } else if (word > 31) {
                value += word * 10000;
                units += "y";
            } else {
                value += Number(word);
                units += "d";
            }
        });
        return { value: value, units: units };
    }

    dateRange = function () {
        var asked = read(arguments), half = asked.words.length > 1 ? asked.words.length / 2 : 1;
        var from = date(asked.words.slice(0, half));
        var to = asked.words.length > 1 ? date(asked.words.slice(half)) : from;
        if (from.units !== to.units || from.units === "") return false;
        var has = function (unit) { return from.units.indexOf(unit) >= 0 ? 1 : 0; };
        var now = has("y") * asked.part("FullYear") * 10000 + has("m") * (asked.part("Month") + 1) * 100 + has("d") * asked.part("Date");
        return has("y") ? from.value <= now && now <= to.value : within(from.value, now, to.value);
    };

    timeRange = function () {
        var asked = read(arguments), w = asked.words;
        var hours = asked.part("Hours"), now = (hours * 60 + asked.part("Minutes")) * 60 + asked.part("Seconds");
        switch (w.length) {
            case 1: return w[0] == hours;
            case 2: return within(w[0], hours, w[1]);
            case 4: return within((w[0] * 60 + w[1]) * 60, now, (w[2] * 60 + w[3]) * 60 + 59);
            case 6: return within((w[0] * 60 + w[1]) * 60 + w[2], now, (w[3] * 60 + w[4]) * 60 + w[5]);
            default: return false;
        }
    };
})();
